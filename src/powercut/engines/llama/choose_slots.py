"""Whether a model's memory can be cut and shared, tried out on the model itself when it is loaded."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from powercut.engines.llama.context import Context
from powercut.engines.llama.gguf_model import GgufModel
from powercut.engines.llama.llama_slots import LlamaSlots, UncutSlots
from powercut.errors import EngineError
from powercut.trace import FloatArray, IntArray

_TOKENS = 16
_TOLERANCE = 0.05
"""Of the largest logit: quantised activations round differently where a pass is cut in another way."""


def why_uncut(model: GgufModel, options: Any) -> str | None:
    """Why a memory cannot be cut and shared, by what the model is and its context's ``options``; None if it may be."""
    if model.recurrent:
        return "has recurrent layers"
    if model.window and not options.swa_full:
        return "has layers that forget what is outside their window (swa_full=False)"
    return None


def choose_slots(model: GgufModel, context: Context, slots: int, length: int, reason: str | None) -> LlamaSlots:
    """Slots that are right for ``model``: with prefix reuse where its memory can be cut, else, with a warning, without.

    ``reason`` is what ``why_uncut`` says. Raises EngineError if the model does not run.
    """
    tokens = _tokens(model.vocab_size, min(_TOKENS, length))
    wanted = _after(context, tokens, 0, 0)
    reason = reason or _try(context, tokens, wanted)
    context.cut(0, 0)
    if reason is None:
        return LlamaSlots(context, slots, length, model.vocab_size)
    warnings.warn(f"this model {reason}: decoding without prefix reuse", stacklevel=3)
    _after(context, tokens[:1], 0, 0)
    sound = context.state(0)
    context.cut(0, 0)
    return UncutSlots(context, slots, length, model.vocab_size, sound)


def _tokens(vocab_size: int, count: int) -> IntArray:
    """Random tokens from the middle of the vocabulary: special ones are at its ends."""
    return np.random.default_rng(count).integers(vocab_size // 4, vocab_size - vocab_size // 4, count)


def _try(context: Context, tokens: IntArray, wanted: FloatArray) -> str | None:
    """Why the memory cannot be cut and shared; None if it can: sequence 0 holds ``tokens``, which gave ``wanted``."""
    half = len(tokens) // 2
    if not context.cut(0, half):
        return "keeps a memory that cannot be cut"
    context.share(0, 1, 0, half)
    errors = [np.abs(_after(context, tokens[half:], half, sequence) - wanted).max() for sequence in (0, 1)]
    context.cut(1, 0)
    if not max(errors) <= _TOLERANCE * max(np.abs(wanted).max(), np.finfo(np.float32).tiny):
        return f"gives other logits after a cut (difference {max(errors):.2g})"
    return None


def _after(context: Context, tokens: IntArray, start: int, sequence: int) -> FloatArray:
    """The logits ``[V]`` after ``tokens`` at ``start`` of a sequence."""
    n = len(tokens)
    context.decode(tokens, np.arange(start, start + n), np.full(n, sequence), np.array([n - 1]))
    logits: FloatArray = context.logits(1)[0].copy()
    if not np.isfinite(logits).all():
        raise EngineError("the model's logits are NaN or infinite: check the file")
    return logits
