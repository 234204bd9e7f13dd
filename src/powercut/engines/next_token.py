"""From scores to the next token: the one place where the base law, the proposal law and the entropy are computed.

Works on numpy and torch arrays alike (the array API), on whatever device they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from array_api_compat import array_namespace


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
    xp = array_namespace(logits)
    logp = _log_normalised(xp, logits)
    p = xp.exp(logp)
    # p log p is 0 where p is 0, not the NaN of 0 * -inf.
    entropy = -xp.sum(p * xp.where(p == 0, xp.zeros_like(p), logp), axis=-1)
    # The largest score is made 0 before it is divided: no temperature, however low, makes it overflow.
    logq = _log_normalised(xp, (logp - xp.max(logp, axis=-1, keepdims=True)) / temperature[:, None])
    return NextTokenLaw(logp, logq, entropy)


def draw(logq: Any, uniform: Any) -> Any:
    """Indices ``[rows]`` drawn from ``exp(logq)`` ``[rows, K]`` by inverting its distribution function.

    It is inverted at ``uniform`` ``[rows]``, in [0, 1). A token of probability 0 is never drawn.
    """
    xp = array_namespace(logq)
    cdf = xp.cumulative_sum(xp.exp(logq), axis=-1)
    return xp.sum(xp.astype(cdf <= uniform[:, None] * cdf[:, -1:], xp.int64), axis=-1)


def _log_normalised(xp: Any, scores: Any) -> Any:
    shifted = scores - xp.max(scores, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
