"""The acceptance ratio of a recorded step, taken apart, and how it fell while the proposal grew."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from powercut.samplers import EntropyCut, UniformCut
from powercut.target import LogRatio
from powercut.trace import Trace

POINTS = 96
"""Of the curve of a bound, at most."""


@dataclass(frozen=True, slots=True)
class Terms:
    """log A of a proposal as it was drawn, and its parts, in nats; they add up to ``total``.

    ``power`` is the gain in alpha log p (in log p itself at alpha = inf), ``proposal`` that in -log q, ``bonus`` that
    in the length bonus, ``cut`` that of the cut law. ``curve`` has the ratio, or the bound on it, after so many tokens
    of the proposal.
    """

    total: float
    power: float
    proposal: float
    bonus: float
    cut: float
    curve: list[tuple[int, float]]


def terms_of(sampler: EntropyCut | UniformCut, current: Trace, proposal: Trace, cut: int, horizon: int) -> Terms | None:
    """The terms of a proposal to go from ``current`` on from ``cut``; None for one without tokens."""
    if not len(proposal):
        return None
    kernel = sampler.kernel
    if kernel.rule == "published":
        horizon = len(current)
    ratio = LogRatio(
        *(kernel.target, kernel.law, current, cut, kernel.rule),
        room=horizon - cut,
        differing=kernel.count == "differing",
    )
    curve = []
    for part in np.array_split(np.arange(len(proposal)), min(POINTS, len(proposal))):
        value = ratio.add(proposal[int(part[0]) : int(part[-1]) + 1])
        curve.append((int(part[-1]) + 1, value))
    old = current[cut:]
    if kernel.rule == "published":
        old = old[: len(proposal)]
    target = kernel.target
    logp = float(proposal.logp.sum()) - float(old.logp.sum())
    if math.isinf(target.alpha):
        return Terms(ratio.value, ratio.value, 0.0, 0.0, 0.0, curve)
    power, drawn = target.alpha * logp, float(old.logq.sum()) - float(proposal.logq.sum())
    room = horizon - cut if target.length_bonus > 0 and not ratio.whole else len(proposal)
    bonus = target.length_bonus * (room - len(old))
    return Terms(ratio.value, power, drawn, bonus, ratio.value - power - drawn - bonus, curve)
