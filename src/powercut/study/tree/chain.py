"""The Metropolis-Hastings chain on the leaves of a tree: an exact lumping of the chain on completions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from powercut.cuts import CutLaw
from powercut.study.tree.leaves import Leaves
from powercut.study.tree.trees import Tree
from powercut.trace import FloatArray


@dataclass(frozen=True)
class LeafChain:
    """One step with a cut law on a tree, between leaves.

    ``steps`` ``[n, n]`` is the transition matrix, ``kappa`` ``[n, T]`` the cut law. Of each leaf, ``tokens`` is how
    many a step decodes without early rejection, ``accepted`` the chance that it is accepted, ``changed`` that the text
    changes, details included.
    """

    leaves: Leaves
    kappa: FloatArray
    steps: FloatArray
    tokens: FloatArray
    accepted: FloatArray
    changed: FloatArray

    def mean(self, of_leaf: FloatArray) -> float:
        """The mean at equilibrium."""
        return float(self.leaves.pi @ of_leaf)

    @property
    def moves_first(self) -> float:
        """Share of steps, at equilibrium, that change the first decision."""
        n, width = len(self.leaves.pi), self.leaves.tree.width
        branch = np.arange(n) // (n // width)
        return self.mean(np.where(branch[:, None] != branch[None], self.steps, 0).sum(1))


def make_chain(leaves: Leaves, law: CutLaw) -> LeafChain:
    """The chain of a cut law. Cuts after the last decision change details alone, and leave the leaf as it is."""
    tree, n = leaves.tree, len(leaves.pi)
    k, width, length = len(tree.decisions), tree.width, tree.tokens
    kappa = np.stack([law.probs(entropy) for entropy in leaves.entropy])
    with np.errstate(divide="ignore"):
        log_kappa = np.log(kappa)
    steps, accepted, repeated = np.zeros((n, n)), np.zeros(n), np.zeros(n)
    # log of the chance that a proposal from c has the current details
    same_details = np.cumsum(leaves.log_repeat[:, ::-1], 1)[:, ::-1]
    ends = (-1, *tree.decisions, length - 1)
    for j in range(k + 1):  # cuts behind decision j, up to the next, draw decisions j+1 to k again
        places = np.arange(ends[j] + 1, ends[j + 1] + 1)
        if not len(places):
            continue
        size = width ** (k - j)
        tail_q = leaves.logq[:, j:].sum(1)
        tail_gain = leaves.gains[:, (tree.decisions[j] if j < k else length) :].sum(1)
        for rows in (slice(start, start + size) for start in range(0, n, size)):
            weights = law.weights(leaves.entropy[rows.start])[places]
            for weight in np.unique(weights):  # kappa depends on the place through its weight alone
                where = places[weights == weight]
                c = where[0]
                chance = kappa[rows, c] * len(where)
                if not chance.any():
                    continue
                with np.errstate(invalid="ignore"):  # of leaves that are never cut there
                    log_accept = tail_gain[None, rows] - tail_gain[rows, None]
                    log_accept = log_accept + log_kappa[None, rows, c] - log_kappa[rows, c][:, None]
                    moves = chance[:, None] * np.exp(tail_q[rows] + np.minimum(0, log_accept))
                moves = np.where(chance[:, None] > 0, moves, 0)
                steps[rows, rows] += moves
                accepted[rows] += moves.sum(1)
                repeats = (kappa[rows][:, where] * np.exp(same_details[rows][:, where])).sum(1)
                repeated[rows] += repeats * np.exp(tail_q[rows])
    steps[np.arange(n), np.arange(n)] += 1 - accepted
    tokens = kappa @ (length - np.arange(length, dtype=np.float64))
    return LeafChain(leaves, kappa, steps, tokens, accepted, np.maximum(accepted - repeated, 0))


def distance(law: FloatArray, pi: FloatArray) -> float:
    """Total variation between two laws; of several rows of laws, the largest."""
    return float(0.5 * np.abs(law - pi).sum(-1).max())


def mixing_time(chain: LeafChain, level: float = 0.25) -> float:
    """t_mix: the least number of steps after which no start is further than ``level`` from the target."""
    pi, powers, most = chain.leaves.pi, [chain.steps], 50
    while distance(powers[-1], pi) > level:
        if len(powers) == most:
            return math.inf
        powers.append(powers[-1] @ powers[-1])
    steps, done = 0, np.eye(len(pi))
    for digit in reversed(range(len(powers) - 1)):  # the most steps that are too few
        further = done @ powers[digit]
        if distance(further, pi) > level:
            done, steps = further, steps + 2**digit
    return steps + 1


def relaxation_time(chain: LeafChain) -> float:
    """1 / (1 - the largest eigenvalue's size below 1), in steps: how many make two states all but independent."""
    root = np.sqrt(chain.leaves.pi)
    symmetric = root[:, None] * chain.steps / root
    values = np.linalg.eigvalsh((symmetric + symmetric.T) / 2)
    return float(1 / (1 - max(values[-2], -values[0]))) if len(values) > 1 else 1.0


def upper_bound(chain: LeafChain, level: float = 0.25) -> float:
    """Steps that are enough: with M = max pi/q, ceil(ln(1/level) M / sum over c <= d_1 of min_x kappa_x(c)).

    A cut at or before the first decision draws a leaf from q, and P(x, y) >= pi(y) K / M (Doeblin).
    """
    first = chain.leaves.tree.decisions[0]
    reach = float(chain.kappa[:, : first + 1].min(0).sum())
    return math.ceil(math.log(1 / level) * chain.leaves.worst_weight / reach) if reach > 0 else math.inf


def lower_bound(chain: LeafChain, level: float = 0.25) -> float:
    """Steps that are needed to leave a branch of the first decision: of all branches, the most."""
    leaves = chain.leaves
    first, size = leaves.tree.decisions[0], len(leaves.pi) // leaves.tree.width
    most = 0.0
    for rows in (slice(start, start + size) for start in range(0, len(leaves.pi), size)):
        mass = float(leaves.pi[rows].sum())
        cut = float(chain.kappa[rows, : first + 1].sum(1).max())
        leave = cut * -math.expm1(leaves.logq[rows.start, 0])
        if mass + level < 1:
            most = max(most, -math.log(mass + level) / -math.log1p(-min(leave, 1 - 1e-12)))
    return most


@dataclass(frozen=True)
class StagedLaw:
    """What a staged schedule returns: its law of leaves, the distance to the target, and mean tokens decoded."""

    law: FloatArray
    distance: float
    tokens: float


def staged_law(tree: Tree, law: CutLaw, alpha: float, blocks: int, steps: int) -> StagedLaw:
    """Extend to each of ``blocks`` horizons and take ``steps`` steps there; nothing is finished before the last."""
    horizons = sorted({round(i * tree.tokens / blocks) for i in range(1, blocks + 1)} - {0})
    leaf, decided, length, tokens = np.ones(1), 0, 0, 0.0
    for horizon in horizons:
        leaves = Leaves(tree.up_to(horizon), alpha)
        leaf = np.repeat(leaf, len(leaves.pi) // len(leaf)) * np.exp(leaves.logq[:, decided:].sum(1))
        decided, tokens, length = leaves.logq.shape[1], tokens + horizon - length, horizon
        chain = make_chain(leaves, law)
        for _ in range(steps):
            tokens += float(leaf @ chain.tokens)
            leaf = leaf @ chain.steps
    return StagedLaw(leaf, distance(leaf, leaves.pi), tokens)
