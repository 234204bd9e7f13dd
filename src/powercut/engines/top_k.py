"""Traces from what a server returns: the raw log-probabilities of the K most likely tokens at each position.

With ``top_k`` = K that is all there is to know: the base model is its law truncated to those K and renormalised.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from powercut.engines.next_token import next_token_law
from powercut.errors import EngineError
from powercut.trace import FloatArray, IntArray, Trace


def trace_from_top_k(
    tokens: ArrayLike, ids: IntArray, logprobs: FloatArray, *, top_k: int, temperature: float, finished: bool = False
) -> Trace:
    """The trace of ``tokens`` ``[n]`` from the most likely ids and their raw log-probabilities, ``[n, K']``, K' >= K.

    Entries need no order; absent ones have log-probability -inf. Log-probabilities may lack a constant per position.
    The K largest are kept. A token drawn outside them, which an engine that keeps ties at rank K may do, takes the
    place of the last, whose log-probability it shares.

    Raises EngineError if a drawn token is not among the entries, or is less likely than rank K by more than a tie.
    """
    drawn = np.asarray(tokens, dtype=np.int64)
    if not len(drawn):
        return Trace.empty()
    rows = np.arange(len(drawn))
    order = np.argsort(-logprobs, axis=1, kind="stable")
    ids, logprobs = ids[rows[:, None], order], logprobs[rows[:, None], order].astype(np.float64)
    found = ids == drawn[:, None]
    if not found.any(axis=1).all():
        missing = int(drawn[~found.any(axis=1)][0])
        raise EngineError(f"the server drew token {missing} but gave no log-probability for it")
    rank = found.argmax(axis=1)
    last = min(top_k, logprobs.shape[1]) - 1
    below = logprobs[rows, last] - logprobs[rows, rank]
    if (below > 1e-4).any():
        raise EngineError(f"the server drew a token outside the {top_k} most likely: is its top_k {top_k}?")
    rank = np.minimum(rank, last)
    law = next_token_law(logprobs[:, : last + 1], np.full(len(drawn), temperature))
    return Trace(drawn, law.logp[rows, rank], law.logq[rows, rank], law.entropy, finished=finished)
