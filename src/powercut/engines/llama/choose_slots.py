"""Whether a model's memory can be cut and shared, tried out on the model itself when it is loaded."""

from __future__ import annotations

import warnings

import numpy as np

from powercut.engines.llama.context import Context
from powercut.engines.llama.gguf_model import GgufModel
from powercut.engines.llama.llama_slots import LlamaSlots, UncutSlots
from powercut.errors import EngineError
from powercut.trace import FloatArray, IntArray

_TOKENS = 16
_TOLERANCE = 0.05
"""Of the largest logit: quantised activations round differently where a pass is cut in another way."""


def choose_slots(model: GgufModel, context: Context, slots: int, length: int) -> LlamaSlots:
    """Slots that are right for ``model``: with prefix reuse where its memory can be cut, else, with a warning, without.

    Raises EngineError if the model does not run.
    """
    reason = None if context.keeps_all else "has layers that forget what is outside their window (swa_full=False)"
    reason = reason or _try(model, context, length)
    if reason is None:
        return LlamaSlots(context, slots, length, model.vocab_size)
    warnings.warn(f"this model {reason}: decoding without prefix reuse", stacklevel=3)
    return UncutSlots(context, slots, length, model.vocab_size)


def _try(model: GgufModel, context: Context, length: int) -> str | None:
    """Why the memory cannot be cut and shared; None if it can."""
    count = min(_TOKENS, length)
    tokens = np.random.default_rng(count).integers(
        model.vocab_size // 4, model.vocab_size - model.vocab_size // 4, count
    )
    half, reason = count // 2, None
    wanted = _after(context, tokens, 0, 0)
    if half and not context.cut(0, half):
        reason = "keeps a memory that cannot be cut"
    elif half:
        context.share(0, 1, 0, half)
        for sequence in (0, 1):
            error = np.abs(_after(context, tokens[half:], half, sequence) - wanted).max()
            if not error <= _TOLERANCE * max(np.abs(wanted).max(), np.finfo(np.float32).tiny):
                reason = f"gives other logits after a cut (difference {error:.2g})"
    for sequence in (0, 1):
        context.cut(sequence, 0)
    return reason


def _after(context: Context, tokens: IntArray, start: int, sequence: int) -> FloatArray:
    """The logits ``[V]`` after ``tokens`` at ``start`` of a sequence."""
    n = len(tokens)
    context.decode(tokens, np.arange(start, start + n), np.full(n, sequence), np.array([n - 1]))
    logits: FloatArray = context.logits(1)[0].copy()
    if not np.isfinite(logits).all():
        raise EngineError("the model's logits are NaN or infinite: check the file")
    return logits
