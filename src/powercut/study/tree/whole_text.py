"""Mixing of the whole text, details included, where every proposal is accepted."""

from __future__ import annotations

import math

import numpy as np

from powercut.cuts import CutLaw
from powercut.study.tree.leaves import Leaves
from powercut.trace import FloatArray


def whole_text_mixing_time(leaves: Leaves, law: CutLaw, level: float = 0.25) -> float:
    """t_mix of texts, from the least likely one, for a tree whose decisions and details are all independent.

    Then the target is q itself, every proposal is accepted, and after t steps the text agrees with the start up to the
    smallest cut m and is drawn anew from there: its law is sum_m P(smallest cut = m) q(. | x_<m).
    """
    tree = leaves.tree
    log_least = np.zeros(tree.tokens)  # log of the least chance of each token
    for c in (*tree.decisions, *tree.details):
        p = tree.law(()) if c == tree.decisions[0] else tree.law((0,)) if c in tree.decisions else tree.detail((), c)
        if p is not None:
            power = np.asarray(p, dtype=np.float64) ** leaves.alpha
            log_least[c] = np.log(power.min() / power.sum())
    cuts = np.clip(np.cumsum(law.probs(leaves.entropy[0])), 0, 1)

    def far(steps: int) -> bool:
        return _distance_after(steps, cuts, log_least) > level

    few, enough = 0, 1
    while far(enough):
        few, enough = enough, 2 * enough
        if enough > 2**50:
            return math.inf
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (middle, enough) if far(middle) else (few, middle)
    return enough


def _distance_after(steps: int, cuts: FloatArray, log_least: FloatArray) -> float:
    """Total variation after so many steps; ``cuts`` are the chances that one cut is at or before each position."""
    with np.errstate(divide="ignore"):
        kept = np.concatenate(([1.0], np.exp(steps * np.log1p(-cuts))))  # P(no cut is below m), m = 0, ..., T
    kept[-1] = 0.0 if steps else 1.0
    smallest = np.append(kept[:-1] - kept[1:], kept[-1])
    agree = np.exp(np.concatenate(([0.0], np.cumsum(log_least))))  # the target's chance of the start's first a tokens
    least = np.exp(log_least)
    leave = 1 - np.append(least, 0.0)
    total, ratio = 0.0, 0.0
    for a in range(len(agree)):  # of texts that leave the start at token a: the law over the target, times ``agree``
        ratio = ratio * (least[a - 1] if a else 1.0) + smallest[a]
        total += max(ratio - agree[a], 0.0) * leave[a]
    return total
