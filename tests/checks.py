"""What the exact tests share: random models, statistics with stated false-alarm probabilities, grids of settings."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import stats

from powercut.study.exact import NextTokenProbs, Space

ALARM = 1e-6
"""The false-alarm probability of a statistical test: with a random seed, so often one fails that should not."""


def random_table(seed: int, vocab: int = 3, zeros: bool = False) -> NextTokenProbs:
    """A model whose law differs at every context, sharp or flat, with token 0 (the stop) common."""
    laws: dict[tuple[int, ...], np.ndarray] = {}

    def probs(context):
        if context not in laws:
            rng = np.random.default_rng([seed, vocab, *(t + 1 for t in context)])
            weights = rng.dirichlet(np.full(vocab, rng.choice([0.3, 1.0, 5.0]))) + 1e-3
            if zeros and rng.random() < 0.3:
                weights[rng.integers(1, vocab)] = 0.0
            laws[context] = weights / weights.sum()
        return laws[context]

    return probs


def chi_square_p(counts: np.ndarray, law: np.ndarray) -> float:
    """p-value of Pearson's chi-square test; cells expected below 10 are pooled; a count where law is 0 gives 0."""
    n = counts.sum()
    if counts[law <= 0].any():
        return 0.0
    expected = n * law
    big = expected >= 10
    observed = np.append(counts[big], counts[~big].sum())
    wanted = np.append(expected[big], expected[~big].sum())
    keep = wanted > 0
    observed, wanted = observed[keep], wanted[keep]
    if len(observed) < 2:
        return 1.0
    return float(stats.chi2.sf(((observed - wanted) ** 2 / wanted).sum(), len(observed) - 1))


def draws_to_tell(law: np.ndarray, control: np.ndarray, least: int = 300, miss: float = ALARM) -> int:
    """How many draws a chi-square test against ``law`` at ALARM needs, to fail a sampler that has the law ``control``.

    At least ``least``. It then misses the control with probability ``miss``, as far as a non-central chi-square tells.
    """
    n = least
    while _miss(law, control, n) > miss:
        n += n // 10
        assert n < 10**5, "the two laws are all but the same"
    return n


def _miss(law: np.ndarray, control: np.ndarray, n: int) -> float:
    if (outside := control[law <= 0].sum()) > 0:
        return float((1 - outside) ** n)
    big = n * law >= 10  # pooled as in chi_square_p
    wanted, given = (n * np.append(each[big], each[~big].sum()) for each in (law, control))
    wanted, given = wanted[wanted > 0], given[wanted > 0]
    if len(wanted) < 2:
        return 1.0
    df = len(wanted) - 1
    return float(stats.ncx2.cdf(stats.chi2.isf(ALARM, df), df, ((given - wanted) ** 2 / wanted).sum()))


def evidence(values: np.ndarray, mean: float, most: float = 1.0) -> float:
    """Evidence against a mean of independent values from 0 to ``most``: 1/a or more with probability a at most.

    What a gambler who began with 1 owns after betting a share of it on each value; the average of several, who bet that
    values are above or below ``mean`` (Waudby-Smith and Ramdas 2024). With that mean the game is fair and no value
    ruins them, so by Markov's inequality the bound holds whatever the law and however few the values.
    """
    shares = np.array([0.9, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01])
    bets = np.concatenate((shares / mean, -shares / (most - mean)))
    assert (values >= 0).all()
    assert (values <= most * (1 + 1e-12)).all()
    with np.errstate(over="ignore"):
        return float(np.exp(np.log1p(bets[:, None] * (values - mean)).sum(axis=1)).mean())


def count(space: Space, completions) -> np.ndarray:
    """How often each completion of the space was drawn."""
    counts = np.zeros(len(space.completions))
    for x in completions:
        counts[space.index[tuple(int(t) for t in x.tokens)]] += 1
    return counts


def grid(**options):
    """Every combination of the options, as dicts."""
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
