"""The law of the next token: where base law, proposal law and entropy are computed, and servers' rows are checked.

The base model is its law truncated to the K most likely tokens and renormalised (``top_k`` = K), or the whole law.
Works on numpy and torch arrays alike, on whatever device they are.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from powercut.errors import EngineError
from powercut.trace import FloatArray, IntArray, Rows

TIE = 1e-4
"""Nats within which a server's log-probabilities are equal: which of two equal tokens is at rank K is its affair."""

ROUNDING = 1e-3
"""By how much rounding may lift a log-probability above 0, or the sum of a row's probabilities above 1."""


RAREST = 1e-9
"""No vocabulary has so many tokens that the most likely of them is rarer."""


class NextTokenLaw(NamedTuple):
    """Laws of the next token, one row per request: ``[rows, K]``, but for ``entropy``: ``[rows]``. All in nats."""

    logp: Any
    """Log-probabilities of the base model."""
    logq: Any
    """Log-probabilities of the proposal, q(v) ∝ p(v)^(1/temperature)."""
    entropy: Any
    """Entropy of the base model."""


def next_token_law(logits: Any, temperature: Any) -> NextTokenLaw:
    """The laws that ``logits`` ``[rows, K]`` (or any log p up to a constant; -inf: impossible) give.

    ``temperature`` ``[rows]`` is the proposal's. Rows that hold a NaN or +inf come out with a NaN entropy.
    """
    xp = library(logits)
    logp = _log_normalised(xp, logits)
    p = xp.exp(logp)
    # p log p is 0 where p is 0, not the NaN of 0 * -inf.
    entropy = -(p * xp.where(p == 0, xp.zeros_like(p), logp)).sum(axis=-1)
    # The largest score is made 0 before it is divided: no temperature, however low, makes it overflow.
    logq = _log_normalised(xp, (logp - xp.amax(logp, axis=-1, keepdims=True)) / temperature[:, None])
    return NextTokenLaw(logp, logq, entropy)


def draw(logq: Any, uniform: Any) -> Any:
    """Indices ``[rows]`` drawn from ``exp(logq)`` ``[rows, K]`` by inverting its distribution function.

    It is inverted at ``uniform`` ``[rows]``, in [0, 1). A token of probability 0 is never drawn.
    """
    xp = library(logq)
    cdf = xp.cumsum(xp.exp(logq), axis=-1)
    return (cdf <= uniform[:, None] * cdf[:, -1:]).sum(axis=-1)


class Drawn(NamedTuple):
    """``tokens`` ``[n]`` that were drawn, their ``laws`` ``[3, n]`` (logp, logq, entropy), and the whole laws there."""

    tokens: IntArray
    laws: FloatArray
    rows: Rows | None = None

    def between(self, start: int, stop: int) -> Drawn:
        """Those from ``start`` to ``stop``, the latter not included."""
        rows = None if self.rows is None else self.rows.between(start, stop)
        return Drawn(self.tokens[start:stop], self.laws[:, start:stop], rows)

    @classmethod
    def join(cls, pieces: Sequence[Drawn]) -> Drawn:
        """One after the other, with their rows if all have some."""
        return cls(
            np.concatenate([piece.tokens for piece in pieces]),
            np.concatenate([piece.laws for piece in pieces], axis=1),
            Rows.join([piece.rows for piece in pieces if len(piece.tokens)]),
        )


def top_k_laws(
    tokens: ArrayLike,
    ids: IntArray,
    logprobs: FloatArray,
    *,
    top_k: int,
    temperature: float,
    barred: Collection[int] = (),
) -> Drawn:
    """The ``tokens`` ``[n]`` that a server drew, with their laws, from its rows.

    Rows are the most likely ids and their raw log-probabilities ``[n, K']``, K' >= K, in any order; id -1 marks an
    empty place. The K largest are kept. A token drawn outside them, which a server that keeps ties at rank K may do,
    takes the place of the last, whose log-probability it shares. ``barred`` tokens are impossible in every row: the law
    is that of the other ones among the K, renormalised.

    Raises EngineError for rows that are no such thing (``check_rows``), if a drawn token is not in its row, or if it is
    less likely than rank K by more than a tie.
    """
    drawn = np.asarray(tokens, dtype=np.int64)
    if not len(drawn):
        return Drawn(drawn, np.zeros((3, 0)))
    check_rows(ids, logprobs, top_k)
    rows = np.arange(len(drawn))
    order = np.argsort(np.where(ids < 0, np.inf, -logprobs), axis=1, kind="stable")
    ids, logprobs = ids[rows[:, None], order], logprobs[rows[:, None], order].astype(np.float64)
    logprobs = np.maximum(logprobs, -1e100)  # no different from lower ones, and no temperature makes it overflow
    found = ids == drawn[:, None]
    if not found.any(axis=1).all():
        missing = int(drawn[~found.any(axis=1)][0])
        raise EngineError(f"the server drew token {missing} but gave no log-probability for it")
    rank = found.argmax(axis=1)
    below = logprobs[rows, top_k - 1] - logprobs[rows, rank]
    if (below > TIE).any():
        raise EngineError(f"the server drew a token outside the {top_k} most likely: is its top_k {top_k}?")
    rank = np.minimum(rank, top_k - 1)
    ids, logprobs = ids[:, :top_k], logprobs[:, :top_k]
    ids[rows, rank] = drawn
    law = next_token_law(without(logprobs, ids, barred), np.full(len(drawn), temperature))
    with np.errstate(over="ignore"):  # what is beyond float32 is as good as impossible
        kept = Rows(ids.astype(np.int32), law.logp.astype(np.float32))
    return Drawn(drawn, np.stack((law.logp[rows, rank], law.logq[rows, rank], law.entropy)), kept)


def redraw(
    ids: IntArray,
    logprobs: FloatArray,
    uniform: float,
    *,
    top_k: int,
    temperature: float,
    among: Collection[int] | None = None,
    barred: Collection[int] = (),
) -> Drawn | None:
    """One token ``[1]`` with its laws, drawn at ``uniform`` in [0, 1) by the law of one row ``[1, K']``.

    ``among`` are the tokens that may be drawn (None: all but the ``barred``, under whose absence laws are those of
    ``top_k_laws``). None if there is none of them among the K most likely. Raises EngineError as ``check_rows`` does.
    """
    check_rows(ids, logprobs, top_k)
    likeliest = ids[0][np.argsort(np.where(ids[0] < 0, np.inf, -logprobs[0]), kind="stable")][:top_k]
    wanted = ~np.isin(likeliest, list(barred))
    if among is not None:
        wanted &= np.isin(likeliest, list(among))
    tokens = likeliest[wanted]
    if not len(tokens):
        return None
    rows = np.repeat(ids, len(tokens), axis=0), np.repeat(logprobs, len(tokens), axis=0)
    each = top_k_laws(tokens, *rows, top_k=top_k, temperature=temperature, barred=barred)
    i = int(draw(each.laws[1][None], np.array([uniform]))[0])
    return each.between(i, i + 1)


def without(logits: FloatArray, ids: IntArray, barred: Collection[int]) -> FloatArray:
    """``logits`` of the tokens ``ids``, in arrays of one shape, the ``barred`` ones made impossible."""
    return np.where(np.isin(ids, list(barred)), -np.inf, logits) if barred else logits


def check_rows(ids: IntArray, logprobs: FloatArray, top_k: int) -> None:
    """Raise EngineError unless each row ``[n, K']`` holds log-probabilities of at least ``top_k`` different tokens.

    They are finite, at most 0, and of a law: their probabilities sum to at most 1, and one is likely, whatever the
    vocabulary. Places with id -1 are empty.
    """
    there = ids >= 0
    if (least := int(there.sum(axis=1).min())) < top_k:
        raise EngineError(f"the server gave {least} log-probabilities for a token where top_k is {top_k}")
    values = np.where(there, logprobs, -np.inf)
    if not np.isfinite(logprobs[there]).all():
        raise EngineError("the server gave a log-probability that is NaN, infinite or null")
    if (values > ROUNDING).any():
        raise EngineError(f"the server gave a log-probability above 0 ({values.max():g}): they are not raw")
    if (np.exp(values).sum(axis=1) > 1 + ROUNDING).any():
        raise EngineError("the server gave log-probabilities whose probabilities sum to more than 1: they are not raw")
    if (values.max(axis=1) < np.log(RAREST)).any():
        raise EngineError("the server gave log-probabilities of which none is of a likely token: they are not raw")
    ordered = np.sort(np.where(there, ids, -1 - np.arange(ids.shape[1])), axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise EngineError("the server gave two log-probabilities for one token")


def whole_numbers(values: Sequence[Any]) -> IntArray:
    """Token ids as a server or library gives them. Raises EngineError for what is no whole number of at least 0."""
    whole = all(issubclass(kind, int | np.integer) and kind is not bool for kind in set(map(type, values)))
    try:
        ids = np.array(values if whole else [-1], dtype=np.int64)
    except OverflowError:
        ids = np.array([-1])
    if (ids < 0).any():
        raise EngineError("the server gave a token id that is no whole number from 0 on")
    return ids


def padded_rows(widths: IntArray, ids: Sequence[Any], logprobs: Sequence[Any]) -> tuple[IntArray, FloatArray]:
    """Flat ids and log-probabilities, ``widths`` entries a row, as two ``[n, widest]`` arrays for ``top_k_laws``.

    Raises EngineError if they are not as many, an id is no whole number, or a log-probability no number; None, which is
    JSON's null, becomes NaN.
    """
    if widths.sum() != len(ids) or len(ids) != len(logprobs):
        raise EngineError("the server gave log-probabilities that do not match its tokens")
    filled = np.arange(widths.max(initial=0)) < widths[:, None]
    all_ids, values = np.full(filled.shape, -1, dtype=np.int64), np.full(filled.shape, -np.inf)
    all_ids[filled] = whole_numbers(ids)
    kinds = set(map(type, logprobs)) - {float, type(None)}
    try:
        if not all(issubclass(kind, int | np.integer | np.floating) and kind is not bool for kind in kinds):
            raise TypeError
        values[filled] = np.array(logprobs, dtype=np.float64)
    except (TypeError, OverflowError):
        raise EngineError("the server gave a log-probability that is no number") from None
    return all_ids, values


def library(array: Any) -> Any:
    """numpy or torch, whichever made the array: what is used of them has the same names and arguments in both."""
    return sys.modules[type(array).__module__.partition(".")[0]]


def to_numpy(array: Any) -> Any:
    """The array as one of numpy."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def beside(array: Any, values: Any) -> Any:
    """``values``, an array of numpy, in the library and on the device of ``array``."""
    return values if isinstance(array, np.ndarray) else library(array).asarray(values, device=array.device)


def _log_normalised(xp: Any, scores: Any) -> Any:
    shifted = scores - xp.amax(scores, axis=-1, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))
