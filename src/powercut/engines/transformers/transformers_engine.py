"""The embedded engine: a transformers model decoded with continuous batching, on the CPU or a GPU.

Concurrent ``extend`` calls share each forward pass (``batching.py``), and the keys and values of prefixes seen before
are reused (``slots.py``). The base law, the proposal and the entropy are computed in float64 from the model's logits
(``next_token.py``).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Collection

import numpy as np
import torch
from transformers import PreTrainedModel

from powercut.engines.protocol import KeepGoing, Request, Usage, check_request
from powercut.engines.stops import StopWatch
from powercut.engines.transformers.apart import run_apart
from powercut.engines.transformers.batching import Batch, out_of_memory
from powercut.engines.transformers.native_cache import NativeCaches
from powercut.engines.transformers.packed_linear import pack_linears
from powercut.engines.transformers.slots import Slots, Unsupported
from powercut.errors import SettingError
from powercut.models.loading import load_model
from powercut.text import Text, TokenizerText
from powercut.trace import Trace

DEFAULT_LENGTH = 4096


class TransformersEngine:
    """Decodes up to ``slots`` requests at once, each of up to ``context_length`` tokens, prompt included.

    ``model`` is a causal language model in evaluation mode; ``stop_tokens`` end a completion. The cache for
    ``2 * slots * context_length`` tokens is allocated here (``cache_bytes``) and nothing later exceeds it;
    context_length None means the model's own maximum, at most 4096. A model whose cache cannot be laid out so decodes
    one request at a time, with a warning.

    Raises SettingError for sizes that the model or the machine cannot hold.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        text: Text | None = None,
        *,
        stop_tokens: Collection[int] = (),
        slots: int = 16,
        context_length: int | None = None,
        name: str = "transformers",
    ) -> None:
        config = model.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None)
        if context_length is None:
            context_length = min(longest or DEFAULT_LENGTH, DEFAULT_LENGTH)
        if slots < 1:
            raise SettingError(f"slots must be at least 1 (got {slots})")
        if context_length < 2 or (longest is not None and context_length > longest):
            raise SettingError(
                f"context_length must be from 2 to {longest}, the model's maximum (got {context_length})"
            )
        self.name = name
        self.text = text
        self.model = model
        self.stop_tokens = frozenset(stop_tokens)
        self.concurrency = slots
        self.context_length = context_length
        self.vocab_size = int(config.vocab_size)
        self.usage = Usage()
        self._cache = run_apart(_make_cache, model, slots, context_length)
        self._batch = Batch(self._cache, self.usage)

    @classmethod
    def load(
        cls,
        model: str | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        slots: int = 16,
        context_length: int | None = None,
    ) -> TransformersEngine:
        """Load a hub id, a local folder or (None) the bundled model.

        ``device`` None is a GPU if there is one; ``dtype`` None is float32 on the CPU, the checkpoint's own on a GPU.
        Raises EngineError if the model cannot be loaded, SettingError for an unusable option.
        """
        loaded = run_apart(load_model, model, device=device, dtype=dtype)
        run_apart(pack_linears, loaded.model)
        text = None if loaded.tokenizer is None else TokenizerText(loaded.tokenizer)
        stops = loaded.stop_tokens
        return cls(loaded.model, text, stop_tokens=stops, slots=slots, context_length=context_length, name=loaded.name)

    @property
    def cache_bytes(self) -> int:
        """Memory allocated for cached tokens, in bytes."""
        return self._cache.nbytes

    @property
    def idle(self) -> int:
        """How many more requests could join the batch."""
        return max(0, self.concurrency - len(self._batch))

    def describe(self) -> str:
        """One line: the model, where it runs, and the memory its cache takes."""
        tensors = itertools.chain(self.model.parameters(), self.model.buffers())
        weights = sum(t.numel() * t.element_size() for t in tensors)
        dtype = str(self.model.dtype).removeprefix("torch.")
        return (
            f"{self.name} on {self.model.device} in {dtype}: weights {weights / 2**30:.2f} GiB, "
            f"cache {self.cache_bytes / 2**30:.2f} GiB (2 x {self.concurrency} slots of {self.context_length} tokens)"
        )

    def check(self, request: Request) -> None:
        """Raise SettingError if ``request`` cannot fit, or asks for what this model does not have."""
        check_request(request, text=self.text, context_length=self.context_length, vocab_size=self.vocab_size)

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        """Draw tokens until a stop, ``max_new_tokens``, or ``keep_going`` returning False (see ``Engine.extend``)."""
        self.check(request)
        return await self._batch.serve(request, keep_going, StopWatch(request, self.stop_tokens, self.text))


def _make_cache(model: PreTrainedModel, slots: int, length: int) -> Slots | NativeCaches:
    try:
        _check_slots(model)
        return Slots(model, slots, length)
    except Unsupported as reason:
        warnings.warn(f"{reason}: decoding one request at a time, without prefix reuse", stacklevel=3)
        return NativeCaches(model, slots)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise SettingError(
            f"no memory for a cache of 2 x {slots} slots of {length} tokens: lower slots or context_length"
        ) from error


def _check_slots(model: PreTrainedModel) -> None:
    """Raise Unsupported unless slots give the logits that the model gives without them."""
    vocab = model.config.get_text_config().vocab_size
    tokens = np.array([1, 3, 2, 5, 4, 7]) % vocab
    with torch.inference_mode():
        want = model(input_ids=torch.as_tensor(tokens, device=model.device)[None]).logits[0, -1].double()
    slots = Slots(model, slots=2, length=8)
    lanes = [slots.open(tokens, object())[0] for _ in range(2)]
    slots.prefill(lanes[0], tokens[:2])
    slots.prefill(lanes[1], tokens[:5])
    slots.decode(lanes, tokens[[2, 0]])  # the second row takes a wrong token,
    slots.rewind(lanes[1], 5)  # and steps back
    got = slots.decode(lanes, tokens[[3, 5]])[1].double()
    error = (got - want).abs().max() / want.abs().max()
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.1
    if not error <= tolerance:
        raise Unsupported(f"{type(model).__name__} gives other logits with slots (relative difference {error:.1e})")
