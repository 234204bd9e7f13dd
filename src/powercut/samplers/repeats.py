"""Skipping repeats: the tokens of a proposal that are those of the current text need not be decoded. Lossless.

Their law is known. Along the current text x from the cut c on let Q_t = q(x_c) ... q(x_t). A proposal leaves x at the
first t with Q_t <= v, v drawn from U(0, 1), by a token drawn from q given that it is not x_t; if there is no such t it
is x itself. So each proposal has its old probability: the kernel and its ratio stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from powercut.trace import Rows, Trace


def known_part(
    current: Trace, cut: int, temperature_at: Callable[[int], float], rng: np.random.Generator
) -> tuple[Trace, Trace | None]:
    """What a proposal from ``cut`` on repeats of ``current``, and the token by which it leaves it.

    All of the rest of ``current``, and None, if it does not leave it; nothing, and None, if the laws along it are not
    known. ``temperature_at`` gives the proposal's temperature at a position.
    """
    rows = current.rows
    if rows is None:
        return current[:0], None
    reached = np.exp(np.add.accumulate(np.concatenate(([0.0], np.minimum(current.logq[cut:], 0.0)))))
    at = cut + int(rng.choice(len(reached), p=np.append(reached[:-1] - reached[1:], reached[-1])))
    if at == len(current):
        return current[cut:], None
    ids, logp = rows.ids[at], rows.logp[at].astype(np.float64)
    scores = logp / temperature_at(at)
    logq = scores - np.logaddexp.reduce(scores)
    q = np.where(ids == current.tokens[at], 0.0, np.exp(logq))
    if not q.sum():  # only its rounding left the text
        return current[cut:], None
    i = int(rng.choice(len(q), p=q / q.sum()))
    here = slice(at, at + 1)
    law = Rows(rows.ids[here], rows.logp[here])
    return current[cut:at], Trace(ids[i : i + 1], logp[i : i + 1], logq[i : i + 1], current.entropy[here], rows=law)
