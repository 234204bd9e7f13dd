"""Cut laws: where a completion is re-opened. Pure functions of entropies.

A law gives position c the weight w_c >= 0, which depends on the tokens before c alone, and cuts there with probability
kappa(c) = w_c / sum_j w_j; all weights 0 means the uniform law. ``uniform_mix`` = eps mixes in the uniform law:
(1 - eps) kappa + eps uniform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from powercut.trace import FloatArray


class Weights(Protocol):
    """The unnormalised part of a cut law."""

    def __call__(self, entropy: FloatArray, previous: float = 0.0) -> FloatArray:
        """Weights ``[n]`` of consecutive positions from their entropies ``[n]`` (nats).

        ``previous`` is the entropy just before the first of them (0 at the start of a completion).
        """


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every position weighs the same (the cut law of power sampling, arXiv 2510.14901)."""

    def __call__(self, entropy: FloatArray, previous: float = 0.0) -> FloatArray:
        """Ones, whatever the entropies."""
        return np.ones_like(entropy)


@dataclass(frozen=True, slots=True)
class EntropyJump:
    """w_c = max(0, H_c - H_{c-1})^beta: positions where the model becomes unsure (Entropy-Cut, arXiv 2605.30327)."""

    beta: float

    def __call__(self, entropy: FloatArray, previous: float = 0.0) -> FloatArray:
        """Each jump in entropy to the power of beta."""
        before = np.concatenate(((previous,), entropy[:-1]))
        jump: FloatArray = np.maximum(entropy - before, 0.0)
        return jump**self.beta


@dataclass(frozen=True, slots=True)
class CutLaw:
    """kappa over the positions of a completion."""

    weights: Weights
    uniform_mix: float = 0.0

    def probs(self, entropy: FloatArray) -> FloatArray:
        """kappa, shape ``[n]``, for a completion with these entropies."""
        weights = self.weights(entropy)
        total = weights.sum()
        uniform = np.full(len(entropy), 1 / len(entropy))
        if total == 0:
            return uniform
        mixture: FloatArray = (1 - self.uniform_mix) * (weights / total) + self.uniform_mix * uniform
        return mixture

    def log_prob(self, weight: float, total: float, length: int) -> float:
        """log kappa(c), in nats, from w_c, the sum of all weights and the number of positions.

        For a completion that still grows this is an upper bound on log kappa(c) of every completion that it can become:
        w_c is fixed by the prefix, and ``total`` and ``length`` only grow. That holds at total = 0 as well, where w_c
        is 0 too: kappa(c) is then 1/length at most, and eps/length at most once a weight appears.
        """
        if total == 0:
            return -math.log(length)
        prob = (1 - self.uniform_mix) * (weight / total) + self.uniform_mix / length
        return math.log(prob) if prob > 0 else -math.inf
