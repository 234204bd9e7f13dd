"""Skipping repeats: the tokens of a proposal that are those of the current text need not be decoded. Lossless.

Their law is known. Along the current text x from the cut c on let Q_t = q(x_c) ... q(x_t). A proposal leaves x at the
first t with Q_t <= v, v drawn from U(0, 1), by a token drawn from q given that it is not x_t; if there is no such t it
is x itself, and its step is null: nothing comes of it. From the cut c that has the probability Q_n, so a step of k
tries differs, in one of them at least, with probability r = sum_c kappa(c) (1 - Q_n^k). Null steps are passed over in
closed form: their number before the next step that differs is geometric, and that step's cut is drawn in proportion to
kappa(c) (1 - Q_n^k). So each proposal has its old probability: the kernel and its ratio stay as they are.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable

import numpy as np

from powercut.cuts import CutLaw
from powercut.trace import FloatArray, Rows, Trace

Part = tuple[Trace, Trace | None]
"""What a proposal repeats of the current text from the cut on, and the token by which it leaves (None: it does not)."""


def differing_cuts(current: Trace, law: CutLaw, tries: int = 1) -> FloatArray:
    """The probability ``[n]`` of each cut together with that one of the step's proposals differs from ``current``."""
    rest = np.minimum(np.add.accumulate(current.logq[::-1])[::-1], 0.0)
    cuts: FloatArray = law.probs(current.entropy) * -np.expm1(tries * rest)
    return cuts


def null_steps(differs: float, most: int, rng: np.random.Generator) -> int:
    """How many null steps come before one that is not, if that has probability ``differs``; ``most`` at the most."""
    if differs <= 0:
        return most
    log_null = math.log1p(-differs) if differs < 1 else -math.inf
    u = rng.random()  # m of them or more, if it is below (1 - differs)^m
    return bisect_left(range(most), True, key=lambda m: not u < math.exp((m + 1) * log_null))


def known_parts(
    current: Trace,
    cut: int,
    tries: int,
    temperature_at: Callable[[int], float],
    rng: np.random.Generator,
    *,
    differs: bool,
) -> list[Part]:
    """The known part of each of ``tries`` proposals from ``cut`` on; with ``differs``, given that one leaves the text.

    ``temperature_at`` gives the proposal's temperature at a position.
    """
    logq = np.minimum(current.logq[cut:], 0.0)
    rest = float(logq.sum())
    parts: list[Part] = []
    for remaining in range(tries, 0, -1):
        same = math.exp(rest)
        if differs and all(leaving is None for _, leaving in parts):  # one of those to come must leave it
            same *= math.expm1((remaining - 1) * rest) / math.expm1(remaining * rest)
        if rng.random() < same:
            parts.append((current[cut:], None))
        else:
            parts.append(_leave(current, cut, logq, temperature_at, rng))
    return parts


def _leave(
    current: Trace, cut: int, logq: FloatArray, temperature_at: Callable[[int], float], rng: np.random.Generator
) -> Part:
    """The known part of a proposal given that it leaves ``current``, whose log q from ``cut`` on is ``logq``."""
    assert current.rows is not None
    here = np.exp(np.add.accumulate(np.concatenate(([0.0], logq[:-1])))) * -np.expm1(logq)
    at = cut + int(rng.choice(len(here), p=here / here.sum()))
    ids, logp = current.rows.ids[at], current.rows.logp[at].astype(np.float64)
    scores = logp / temperature_at(at)
    law = scores - np.logaddexp.reduce(scores)
    q = np.where(ids == current.tokens[at], 0.0, np.exp(law))
    if not q.sum():  # only its rounding left the text
        return current[cut:], None
    i = int(rng.choice(len(q), p=q / q.sum()))
    one, there = slice(i, i + 1), slice(at, at + 1)
    rows = Rows(current.rows.ids[there], current.rows.logp[there])
    return current[cut:at], Trace(ids[one], logp[one], law[one], current.entropy[there], rows=rows)
