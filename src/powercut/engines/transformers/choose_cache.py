"""Which cache a model decodes with: tried out on the model itself when it is loaded.

Slots are right for models that keep plain keys and values of every token, and that take each row's own positions and
mask. No setting says whether a model's code does; so a short and a long request are computed together, over the remains
of others, and the logits must be those of a plain forward pass. All tokens go in one line if that is right for the
model, else row by row (``one_pass.py``). A model that fails in slots decodes with caches of its own making; if those
fail as well, each context is computed anew for every token. Both are slow, and say so.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from powercut.engines.batching.batch import out_of_memory
from powercut.engines.protocol import Request
from powercut.engines.transformers.native_cache import NativeCaches
from powercut.engines.transformers.one_pass import ByRow, Flattened, NoSlotsError, OnePass
from powercut.engines.transformers.tensor_slots import TensorSlots
from powercut.errors import EngineError, SettingError, one_line
from powercut.trace import IntArray

LONG = 24
"""Most tokens of a request in a trial."""


def make_cache(model: PreTrainedModel, slots: int, length: int) -> TensorSlots | NativeCaches:
    """The fastest cache that is right for ``model``: for ``slots`` requests of ``length`` tokens each.

    Warns if it is a slow one. Raises SettingError if there is no memory for it, EngineError if the model does not run.
    """
    trial = _Trial.of(model)
    for way in (Flattened, ByRow):
        try:
            _check_reach(model.config.get_text_config(), length)
            trial.try_slots(model, way)
            return TensorSlots(model, slots, length, way)
        except Exception as error:
            if out_of_memory(error):
                raise SettingError(
                    f"no memory for a cache of 2 x {slots} slots of {length} tokens: lower slots or context_length"
                ) from error
            reason = _reason(model, error, "in slots")
    try:
        trial.try_native(model)
        warnings.warn(f"{reason}: decoding one request at a time, without prefix reuse", stacklevel=3)
        return NativeCaches(model, slots)
    except Exception as error:
        reason = f"{reason}; {_reason(model, error, 'with its own cache')}"
    warnings.warn(f"{reason}: one request at a time, and its whole context computed anew for each token", stacklevel=3)
    return NativeCaches(model, slots, reuse=False)


def longest_context(config: Any) -> int | None:
    """The most tokens that the model has positions for; None: any number (XLNet says -1)."""
    longest = getattr(config, "max_position_embeddings", None)
    return longest if longest and longest > 0 else None


def rope_switch(config: Any) -> int | None:
    """The length in tokens beyond which rotary embeddings of the longrope kind change for all tokens at once.

    What was cached before does not fit what is computed after, whichever cache it is in. None: they never change.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]  # one for all layers, or for each type
    lengths = [part["original_max_position_embeddings"] for part in kinds if part.get("rope_type") == "longrope"]
    return min(lengths, default=None)


def _reason(model: PreTrainedModel, error: Exception, where: str) -> str:
    if isinstance(error, NoSlotsError):
        return str(error)
    return f"{type(model).__name__} fails {where} ({type(error).__name__}: {one_line(error, 120)})"


def _check_reach(config: Any, length: int) -> None:
    """Raise NoSlotsError where a token may not see all those before it, but at lengths that no trial reaches."""
    everywhere = set(getattr(config, "layer_types", None) or ()) == {"full_attention"}
    for name, value in config.to_dict().items():
        window = "window" in name and name != "max_window_layers" and not everywhere
        if (window or name.startswith("index_top")) and type(value) is int and 0 < value < length:
            raise NoSlotsError(f"{config.model_type} has {name}={value}, less than context_length={length}")


@dataclass(frozen=True, slots=True)
class _Trial:
    """Two requests of unequal length, and the logits ``[2, V]`` that plain forward passes give after them."""

    requests: tuple[IntArray, IntArray]
    wanted: torch.Tensor
    tolerance: float
    """For logits that come about in another order, relative to the largest of them."""
    rounding: float
    """The same for logits that should come about in one and the same way."""

    @classmethod
    @torch.inference_mode()
    def of(cls, model: PreTrainedModel) -> _Trial:
        config = model.config.get_text_config()
        count = min(LONG, longest_context(config) or LONG)
        short, long = _tokens(config, max(3, count // 4)), _tokens(config, count)
        try:
            wanted = [_plain(model, tokens) for tokens in (short, long)]
        except Exception as error:
            raise EngineError(f"the model cannot be run ({type(error).__name__}: {one_line(error)})") from error
        logits = torch.stack(wanted)
        if bool((torch.isnan(logits) | torch.isposinf(logits)).any()):
            raise EngineError("the model's logits are NaN or infinite: try dtype float32, or check the weights")
        # More than half the digits: 7e-5 in float32, 0.05 in bfloat16. Parts of a model are float32 in any case.
        eps = max(torch.finfo(model.dtype).eps, torch.finfo(torch.float32).eps)
        return cls((short, long), logits, tolerance=eps**0.6, rounding=8 * eps)

    def try_slots(self, model: PreTrainedModel, way: type[OnePass]) -> None:
        """Raise NoSlotsError unless slots fed this ``way`` give the logits wanted, whatever lies under the mask."""
        config, name = model.config.get_text_config(), type(model).__name__
        short, long = self.requests
        half = max(1, len(long) // 2 - 1)
        got = []
        for seed in (1, 2):
            cache = TensorSlots(model, 2, len(long), way)
            first, _ = both = [cache.open(Request(tokens, 1))[0] for tokens in self.requests]
            cache.advance([first], [_tokens(config, len(long), seed)], 0)  # the remains of others
            cache.rewind(first, 0)
            cache.advance(both, [short[:-2], long[:half]], 0)
            cache.advance([first], [short[-2:-1]], 1)
            # A newcomer's tokens beside one that decodes; then both decode the same again.
            logits = [cache.advance(both, [short[-1:], long[half:]], 2)]
            for slot, tokens in zip(both, self.requests, strict=True):
                cache.rewind(slot, len(tokens) - 1)
            logits.append(cache.advance(both, [short[-1:], long[-1:]], 2))
            got.append(torch.cat(logits).double())
        if not (unequal := self._difference(*got)) <= self.rounding:
            raise NoSlotsError(f"{name} sees tokens under the mask (relative difference {unequal:.1e})")
        if not (error := self._difference(got[0], self.wanted.repeat(2, 1))) <= self.tolerance:
            raise NoSlotsError(f"{name} gives other logits in slots (relative difference {error:.1e})")

    def try_native(self, model: PreTrainedModel) -> None:
        """Raise NoSlotsError unless the model's own caches give the logits wanted."""
        cache, tokens = NativeCaches(model, 1), self.requests[1]
        slot, _ = cache.open(Request(tokens, 1))
        cache.advance([slot], [tokens[: len(tokens) // 2]], 0)
        for i in range(len(tokens) // 2, len(tokens)):  # step by step: an error in a recurrence grows with time
            logits = cache.advance([slot], [tokens[i : i + 1]], 1)
        if not (error := self._difference(logits.double(), self.wanted[1:])) <= self.tolerance:
            name = type(model).__name__
            raise NoSlotsError(f"{name} gives other logits with its own cache (relative difference {error:.1e})")

    @staticmethod
    def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
        """The largest difference of logits ``[rows, V]``, relative to the largest logit of its row."""
        largest = b.abs().amax(-1).clamp_min(torch.finfo(b.dtype).tiny)  # they may all be 0
        return float(((a - b).abs().amax(-1) / largest).max())


def _plain(model: PreTrainedModel, tokens: IntArray) -> torch.Tensor:
    ids = torch.as_tensor(tokens, device=model.device)[None]
    return model(input_ids=ids, use_cache=False).logits[0, -1].double()


def _tokens(config: Any, count: int, seed: int = 0) -> IntArray:
    """Random tokens from the middle of the vocabulary: special ones, which models treat specially, are at its ends."""
    vocab = int(config.vocab_size)
    return np.random.default_rng([count, seed]).integers(vocab // 4, vocab - vocab // 4, size=count)
