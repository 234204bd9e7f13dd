"""The leaves of a tree, their entropies and increments: what the chain of decisions needs."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np

from powercut.study.tree.trees import Law, Tree
from powercut.target import normalise
from powercut.trace import FloatArray


class Leaves:
    """All leaves of a tree in lexicographic order, as n = width^k rows.

    ``entropy``, ``gains`` and ``log_repeat`` ``[n, T]`` hold, of each token, its entropy, its increment
    g = log sum_v p(v)^alpha and log sum_v q(v)^2 (of a detail: the chance that two draws agree), all in nats; ``logq``
    ``[n, k]`` that of each decision's branch under the proposal. ``pi`` and ``q`` ``[n]`` are the laws of leaves under
    the target and under the proposal.

    With the proposal at tau = 1/alpha a detail's increment is the same for each of its values, so that summing over
    details leaves p^alpha on the leaves as e^(sum log q + sum g).
    """

    def __init__(self, tree: Tree, alpha: float) -> None:
        self.tree, self.alpha = tree, alpha
        k = len(tree.decisions)
        n = tree.width**k
        self.entropy, self.gains, self.log_repeat = (np.zeros((n, tree.tokens)) for _ in range(3))
        self.logq = np.zeros((n, k))
        ends = (-1, *tree.decisions, tree.tokens)
        between = [[c for c in tree.details if low < c < high] for low, high in pairwise(ends)]
        for j in range(k + 1):
            size = tree.width ** (k - j)
            for i, branches in enumerate(product(range(tree.width), repeat=j)):
                rows = slice(i * size, (i + 1) * size)
                for c in between[j]:
                    if (law := tree.detail(branches, c)) is not None:
                        q = self._token(rows, c, law)
                        self.log_repeat[rows, c] = np.log((q**2).sum())
                if j < k:
                    q = self._token(rows, tree.decisions[j], tree.law(branches))
                    self.logq[rows, j] = np.repeat(np.log(q), size // tree.width)
        self.pi = normalise(self.logq.sum(1) + self.gains.sum(1))
        self.q = np.exp(self.logq.sum(1))

    def _token(self, rows: slice, position: int, law: Law) -> FloatArray:
        """Enter a token's law; returns that of the proposal."""
        p = np.asarray(law, dtype=np.float64)
        p = p[p > 0]
        power = p**self.alpha
        self.entropy[rows, position] = -(p * np.log(p)).sum()
        self.gains[rows, position] = np.log(power.sum())
        q: FloatArray = power / power.sum()
        return q

    @property
    def worst_weight(self) -> float:
        """M = max pi/q over leaves."""
        return float((self.pi / self.q).max())
