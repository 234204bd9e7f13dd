"""How much a token says of the final answer: mutual information from few draws, against chance. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from powercut.trace import FloatArray

Labels = NDArray[np.int64]


class Information(NamedTuple):
    """What a token says of the answer, in nats.

    ``estimate`` is the plug-in mutual information less its mean under permutation, which takes its bias away; ``low``
    and ``high`` are the ends of a 95% bootstrap interval for it; ``p`` is the permutation test's p-value.
    """

    estimate: float
    low: float
    high: float
    p: float


def mutual_information(first: Labels, second: Labels) -> float:
    """The plug-in mutual information of two labellings ``[n]``, in nats; at least 0."""
    _, a = np.unique(first, return_inverse=True)
    _, b = np.unique(second, return_inverse=True)
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1 / len(a))
    outer = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    some = joint > 0
    return max(0.0, float((joint[some] * np.log(joint[some] / outer[some])).sum()))


def information(
    tokens: Sequence[object], answers: Sequence[object], rng: np.random.Generator, draws: int
) -> Information:
    """What ``tokens`` say of ``answers``, drawn together; from ``draws`` permutations and as many bootstrap samples.

    An answer of None, where there was none, is an answer like any other. p counts the plug-in value itself among the
    permutations, so that it is never 0 and never too small (Phipson and Smyth 2010).
    """
    first, second = (_labels(several) for several in (tokens, answers))
    found = mutual_information(first, second)
    by_chance = np.array([mutual_information(rng.permutation(first), second) for _ in range(draws)])
    p = (1 + int((by_chance >= found - 1e-12).sum())) / (1 + draws)
    again = np.empty(draws)
    for i in range(draws):
        rows = rng.integers(len(first), size=len(first))
        again[i] = mutual_information(first[rows], second[rows])
    spread = again - again.mean()  # the bootstrap's own bias is that of the plug-in, twice
    estimate = found - float(by_chance.mean())
    low, high = np.quantile(spread, (0.025, 0.975))
    return Information(estimate, estimate + float(low), estimate + float(high), p)


def rank_correlation(x: FloatArray, y: FloatArray) -> float:
    """Spearman's rank correlation of ``[n]`` and ``[n]``, ties at their mean ranks; NaN where one is constant."""
    a, b = (_ranks(each) for each in (x, y))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else float("nan")


def _labels(several: Sequence[object]) -> Labels:
    order = {each: i for i, each in enumerate(dict.fromkeys(several))}
    return np.array([order[each] for each in several], dtype=np.int64)


def _ranks(x: FloatArray) -> FloatArray:
    _, at, counts = np.unique(x, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle: FloatArray = ends - (counts - 1) / 2
    return middle[at]
