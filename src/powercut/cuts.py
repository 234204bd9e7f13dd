"""Cut laws: where a completion is re-opened. Pure functions of entropies.

A law gives position c the weight w_c >= 0, which depends on the tokens before c alone, and cuts there with probability
kappa(c) = w_c / sum_j w_j; all weights 0 means the uniform law. ``uniform_mix`` = eps mixes in the uniform law:
(1 - eps) kappa + eps uniform.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
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


def pick_cut(probs: FloatArray, rng: np.random.Generator) -> int:
    """A cut, by probabilities ``[n]``: the first of n clocks to ring, clock c at the rate probs[c].

    While a text grows the cut that is drawn for it, with the same ``rng``, changes only to a new position, and that
    seldom: so it can be guessed before the text is whole. Nothing that is drawn from ``rng`` afterwards depends on n.
    """
    [clocks] = rng.spawn(1)
    with np.errstate(divide="ignore"):  # what cannot be a cut never rings; + 0.0 since -0.0 is no rate
        return int((clocks.standard_exponential(len(probs)) / (probs + 0.0)).argmin())


class CutSums:
    """What a cut law's normaliser is known by while a completion x grows: sums over its positions.

    ``differing``: of the law of a cut given that the proposal differs from x, over what is drawn behind the cut given
    that it differs. From c a proposal differs with probability 1 - Q_c, Q_c = q(x_c) q(x_{c+1}) ... up to the end of x,
    and so r(x) = sum_j kappa_x(j) (1 - Q_j) in all: kappa_x(c) / r(x) takes the place of kappa_x(c) in a ratio.
    """

    def __init__(self, law: CutLaw, differing: bool = False) -> None:
        self._law, self._differing = law, differing
        self._total, self._length, self._entropy = 0.0, 0, 0.0
        # sum_j w_j Q_j and sum_j w_j (1 - Q_j) so far, by the law's weights and by weights of 1
        self._same, self._other = [0.0, 0.0], [0.0, 0.0]

    def add(self, entropy: FloatArray, logq: FloatArray) -> FloatArray:
        """Take in the next positions, their entropies and proposal log-probabilities ``[n]``; returns their weights."""
        weights = self._law.weights(entropy, self._entropy)
        self._total = sum_in_order(self._total, weights)
        self._length += len(entropy)
        self._entropy = float(entropy[-1]) if len(entropy) else self._entropy
        if self._differing:
            logq = np.minimum(logq, 0.0)
            self._part(weights.tolist(), np.exp(logq).tolist(), (-np.expm1(logq)).tolist())
        return weights

    def log_prob(self, weight: float, *, whole: bool = True) -> float:
        """log kappa_x(c), or log (kappa_x(c) / r(x)), in nats, from w_c.

        Of a completion that is not ``whole`` an upper bound on what it can become, which never rises while it grows.
        """
        if not self._differing:
            return self._law.log_prob(weight, self._total, self._length)
        # With s = (sum_j w_j) eps / n it is ((1 - eps) w_c + s) / ((1 - eps) sum_j w_j (1 - Q_j) + s sum_j (1 - Q_j)),
        # which is at most the larger of the two quotients, whatever s. Both fall as the completion grows.
        eps, (weighted, counted) = self._law.uniform_mix, self._other
        quotients = [_quotient(weight, weighted)] if eps < 1 and self._total else []
        quotients += [_quotient(1.0, counted)] if eps or not self._total else []
        most = max(quotients)
        if whole:
            mean = counted / self._length
            differs = (1 - eps) * (weighted / self._total) + eps * mean if self._total else mean
            prob = math.exp(self._law.log_prob(weight, self._total, self._length))
            most = min(most, _quotient(prob, differs))
        return math.log(most) if most > 0 else -math.inf

    def _part(self, weights: Iterable[float], stay: Iterable[float], leave: Iterable[float]) -> None:
        """Sums of terms that are not negative: to the last bit, none of those that count falls."""
        for w, q, rest in zip(weights, stay, leave, strict=True):
            for i, own in enumerate((w, 1.0)):
                reach = self._same[i] + own
                self._same[i], self._other[i] = reach * q, self._other[i] + reach * rest

    def copy(self) -> CutSums:
        """The same sums, which grow by themselves."""
        other = copy.copy(self)
        other._same, other._other = self._same.copy(), self._other.copy()
        return other


def sum_in_order(start: float, terms: FloatArray) -> float:
    """``start`` and all ``terms``, added up one after the other: the same however they come in pieces."""
    return float(np.add.accumulate(np.concatenate(((start,), terms)))[-1])


def _quotient(a: float, b: float) -> float:
    return a / b if b > 0 else math.inf
