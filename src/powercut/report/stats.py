"""The statistics of a report: pure functions of arrays, with one number a problem.

The problems are what is drawn at random; the several completions of one problem are not independent of each other.
So every interval and every test takes one mean a problem and looks at how these differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95
"""Confidence level of every interval."""

_EXACT = 20
"""With at most so many discordant problems the test enumerates: the chi-squared limit is too eager there."""

_Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate, and the ends of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two samplers on the same problems.

    ``difference`` is that of the accuracies; ``discordant`` counts the problems on which the two differ; ``p`` is the
    two-sided p-value of the clustered McNemar test, ``published_p`` the one without enumeration of few problems, as in
    arXiv 2605.30327; ``problems`` counts those that both have.
    """

    difference: Interval
    p: float
    published_p: float
    discordant: int
    problems: int


def proportion(means: ArrayLike, draws: int) -> Interval:
    """Mean over problems of the share of right completions, with a 95% interval clustered by problem.

    ``means [problems]`` holds each problem's share in [0, 1]; ``draws`` counts the completions of all problems. The
    interval is Wilson's for an effective sample size: ``draws`` over the design effect, which compares the variance
    between problems with that of independent draws (Dean & Pagano 2015, J. Survey Stat. Methodol. 3, 484), with the
    degrees-of-freedom correction of Korn & Graubard (1998). With one completion a problem it is Wilson's (1927). Where
    no variance can be seen, all right or all wrong, every problem counts as one draw.
    """
    share = np.asarray(means, dtype=np.float64)
    problems, mean = len(share), float(share.mean())
    if mean in (0.0, 1.0) or problems == 1:
        size = float(problems)
    else:
        between = float(share.var(ddof=1)) / problems
        independent = mean * (1 - mean) / (draws - 1)
        size = draws * min(1.0, independent / between) if between > 0 else float(draws)
        tails = stats.t.ppf((1 + LEVEL) / 2, [draws - 1, problems - 1])
        size *= float(tails[0] / tails[1]) ** 2
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    centre = (mean + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(mean * (1 - mean) / size + (z / (2 * size)) ** 2)
    return Interval(mean, min(mean, max(0.0, centre - half)), max(mean, min(1.0, centre + half)))


def pass_at_k(right: ArrayLike, draws: ArrayLike, k: int) -> _Floats:
    """Each problem's chance ``[problems]`` that at least one of k of its completions is right.

    Unbiased: 1 - C(n-c, k) / C(n, k) for c right ones among n >= k (Chen et al. 2021, arXiv 2107.03374).
    """
    c, n = np.asarray(right), np.asarray(draws)
    if k < 1 or n.min() < k:
        raise ValueError(f"k must be from 1 to the smallest number of completions, {n.min()} (got {k})")
    return np.asarray(1 - stats.hypergeom.pmf(0, n, c, k), dtype=np.float64)


def compare(ours: ArrayLike, theirs: ArrayLike) -> Comparison:
    """Compare two samplers by each problem's share of right completions, ``[problems]`` each, in the same order.

    The test is McNemar's for clustered pairs: (sum d)^2 / sum d^2 over the problems' differences d is chi-squared with
    one degree of freedom (Durkalski et al. 2003, Stat. Med. 22, 2417; their weights, equal for all problems). With one
    completion a problem that is McNemar's own. With at most 20 discordant problems the law of sum d is enumerated
    instead, each d's sign being a fair coin: McNemar's exact test where there is one completion a problem.

    The interval of the difference is Agresti & Min's (2005, Stat. Med. 24, 729): half a problem is added to each cell
    of the table of pairs, here with the mean d^2 of the discordant problems, and Student's t stands for the normal.
    """
    d = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    moved = d[d != 0]
    published = float(stats.chi2.sf(moved.sum() ** 2 / np.square(moved).sum(), 1)) if len(moved) else 1.0
    p = _sign_flip(moved) if len(moved) <= _EXACT else published
    return Comparison(_difference(d), p, published, len(moved), len(d))


def spread(right: ArrayLike, seeds: ArrayLike) -> float:
    """Standard deviation over seeds of the share of right completions, as published beside pass@1.

    ``right`` and ``seeds`` ``[n]``, one entry a completion. NaN with fewer than two seeds. It tells how far another run
    of the same problems may differ, and nothing of other problems: those are in the interval.
    """
    _, at = np.unique(np.asarray(seeds), return_inverse=True)
    shares = np.bincount(at, np.asarray(right, dtype=np.float64)) / np.bincount(at)
    return float(shares.std(ddof=1)) if len(shares) > 1 else math.nan


def sign_test(larger: int, smaller: int) -> float:
    """The two-sided p-value that so many differences are above 0 and so many below, by a fair coin; ties are left out.

    1 where there is none.
    """
    return float(stats.binomtest(larger, larger + smaller).pvalue) if larger + smaller else 1.0


def holm(p_values: ArrayLike) -> _Floats:
    """Adjust the p-values ``[tests]``, so that they bound the chance of any false alarm among all tests (Holm 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def _difference(d: _Floats) -> Interval:
    size = len(d) + 2
    mean = float(d.sum()) / size
    squares = np.square(d[d != 0])
    added = float(squares.mean()) if len(squares) else 1.0  # 1 with one completion a problem
    variance = (float(squares.sum()) + added) / size - mean**2
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(d) - 1)) * math.sqrt(variance / size) if len(d) > 1 else 2.0
    return Interval(float(d.mean()), max(-1.0, mean - half), min(1.0, mean + half))


def _sign_flip(d: _Floats) -> float:
    """The chance that |sum of +-d| is as large as it is, each sign being a fair coin."""
    sums, chance = np.zeros(1), np.ones(1)
    for size in np.abs(d):
        both = np.concatenate((sums - size, sums + size)).round(9)
        sums, at = np.unique(both, return_inverse=True)
        chance = np.bincount(at, np.tile(chance / 2, 2)).astype(np.float64)
    return min(1.0, float(chance[np.abs(sums) >= abs(d.sum()) - 1e-6].sum()))
