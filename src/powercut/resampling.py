"""Which weighted particles go on, and with what weight: systematic resampling, and chopthin.

Both are unbiased: what a particle's copies weigh together is on average what it weighed.
"""

from __future__ import annotations

import math

import numpy as np

from powercut.trace import FloatArray, IntArray

WEIGHT_RATIO = 3 + math.sqrt(8)
"""Largest weight over smallest after chopthin, as its authors advise."""


def systematic(weights: FloatArray, u: float) -> IntArray:
    """Indices ``[n]`` of resampled particles: i comes floor or ceil of n w_i times, n w_i on average over u in [0, 1).

    ``weights`` ``[n]`` sum to 1. Systematic resampling (Kitagawa 1996): particle i is drawn by each of the points
    (u + k) / n, k = 0, ..., n - 1, that fall between the sums of the weights before it and up to it.
    """
    n = len(weights)
    return np.repeat(np.arange(n), _rounded(n * weights, u, n))


def chopthin(weights: FloatArray, u: float, ratio: float = WEIGHT_RATIO) -> tuple[IntArray, FloatArray]:
    """Indices ``[n]`` of resampled particles and their weights ``[n]``, the largest at most ``ratio`` the smallest.

    ``weights`` ``[n]`` sum to 1; those returned do so on average over u in [0, 1). With a threshold a, found so that n
    particles remain (Gandy and Lau 2016): a particle below a is kept with probability w/a and then weighs a; one above
    ratio a/2 is chopped into floor or ceil of 2w/(ratio a) equal parts, on average into so many; what is between stays
    as it is. ``ratio`` is at least 4.
    """
    n = len(weights)
    a = _threshold(weights, ratio)
    copies = np.where(weights < a, weights / a, np.maximum(1.0, 2 * weights / (ratio * a)))
    certain = np.floor(copies)
    parts = certain.astype(np.int64) + _rounded(copies - certain, u, n - int(certain.sum()))
    return np.repeat(np.arange(n), parts), np.repeat(np.where(weights < a, a, weights / np.maximum(1, parts)), parts)


def _rounded(shares: FloatArray, u: float, total: int) -> IntArray:
    """``shares`` ``[n]``, whose sum is ``total``, each rounded up or down, by one ``u``, so that it stays."""
    if not total:
        return np.zeros(len(shares), dtype=np.int64)
    ends = np.minimum(np.cumsum(shares), total)  # rounding must not add a point, or leave the last without a particle
    ends[np.flatnonzero(shares)[-1] :] = total
    whole = np.floor(ends)
    below = whole + (ends - whole > u)
    return np.diff(below, prepend=0).astype(np.int64)


def _threshold(weights: FloatArray, ratio: float) -> float:
    """The a at which chopthin's expected copies are n in all. They fall as a grows, between two edges as C/a + kept."""
    some = np.sort(weights[weights > 0])
    sums = np.concatenate(([0.0], np.cumsum(some)))
    edges = np.unique(np.concatenate(([0.0], some, 2 * some / ratio)))  # where a particle comes to be kept, or thinned
    thinned = np.searchsorted(some, edges, side="right")
    whole = np.searchsorted(some, ratio / 2 * edges, side="right")
    falling = sums[thinned] + 2 / ratio * (sums[-1] - sums[whole])  # C, behind each edge
    kept = whole - thinned
    with np.errstate(divide="ignore", over="ignore"):
        copies = falling / edges + kept
    at = int(np.flatnonzero(copies >= len(weights))[-1])
    missing = len(weights) - kept[at]
    return float(edges[at] if missing <= 0 or falling[at] == 0 else max(edges[at], falling[at] / missing))
