"""The embedded engine: a transformers model decoded with continuous batching, on the CPU or a GPU.

Concurrent ``extend`` calls share each forward pass (``engines/batching``), and the keys and values of prefixes seen
before are reused (``tensor_slots.py``). The base law, the proposal and the entropy are computed in float64 from the
model's logits (``engines/laws.py``).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

import torch
from transformers import PreTrainedModel

from powercut.engines.batching.apart import run_apart
from powercut.engines.batching.batched_engine import BatchedEngine
from powercut.engines.transformers.choose_cache import longest_context, make_cache, rope_switch
from powercut.engines.transformers.packed_linear import pack_linears
from powercut.errors import EngineError, SettingError
from powercut.models.loading import load_model
from powercut.text import TokenizerText

DEFAULT_LENGTH = 4096


class TransformersEngine(BatchedEngine):
    """Decodes up to ``slots`` requests at once, each of up to ``context_length`` tokens, prompt included.

    ``model`` is a causal language model in evaluation mode; ``stop_tokens`` end a completion. The cache for
    ``2 * slots * context_length`` tokens is allocated here (``cache_bytes``) and nothing later exceeds it;
    context_length None means the model's own maximum, at most 4096. A model that does not decode right in such a cache
    decodes one request at a time, with a warning (``choose_cache.py``).

    Raises SettingError for sizes that the model or the machine cannot hold.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        text: TokenizerText | None = None,
        *,
        stop_tokens: Collection[int] = (),
        slots: int = 16,
        context_length: int | None = None,
        name: str = "transformers",
    ) -> None:
        config = model.config.get_text_config()
        longest = longest_context(config)
        switch = rope_switch(config)
        if context_length is None:
            context_length = min(longest or DEFAULT_LENGTH, switch or DEFAULT_LENGTH, DEFAULT_LENGTH)
        if longest == 1:
            raise EngineError("the model has a position for one token only: it cannot continue a prompt")
        if slots < 1:
            raise SettingError(f"slots must be at least 1 (got {slots})")
        if context_length < 2 or (longest is not None and context_length > longest):
            raise SettingError(
                f"context_length must be from 2 to {longest}, the model's maximum (got {context_length})"
            )
        if switch is not None and context_length > switch:
            raise SettingError(
                f"context_length must be from 2 to {switch} (got {context_length}): beyond it this model's rotary "
                "embeddings change for all tokens at once, cached ones too"
            )
        cache = run_apart(make_cache, model, slots, context_length)
        self.model: Any = model
        self.cache_bytes: int = cache.nbytes
        """Memory allocated for cached tokens, in bytes."""
        tensors = itertools.chain(model.parameters(), model.buffers())
        self.weight_bytes: int = sum(t.numel() * t.element_size() for t in tensors)
        """Memory that the model takes, in bytes."""
        dtype = str(model.dtype).removeprefix("torch.")
        about = f"{name} on {model.device} in {dtype}: weights {self.weight_bytes / 2**30:.2f} GiB"
        if self.cache_bytes:
            about += f", cache {self.cache_bytes / 2**30:.2f} GiB (2 x {slots} slots of {context_length} tokens)"
        super().__init__(
            cache,
            text,
            stop_tokens=stop_tokens,
            slots=slots,
            context_length=context_length,
            vocab_size=int(config.vocab_size),
            name=name,
            about=f"{about}, {cache.way}",
        )

    @classmethod
    def load(
        cls,
        model: str | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        slots: int = 16,
        context_length: int | None = None,
        yarn: float | None = None,
    ) -> TransformersEngine:
        """Load a hub id, a local folder or (None) the bundled model.

        ``device`` None is a GPU if there is one; ``dtype`` None is float32 on the CPU, the checkpoint's own on a GPU.
        ``yarn`` extends the model's context by that factor (arXiv 2309.00071).
        Raises EngineError if the model cannot be loaded, SettingError for an unusable option.
        """
        loaded = run_apart(load_model, model, device=device, dtype=dtype, yarn=yarn)
        run_apart(pack_linears, loaded.model)
        text = None if loaded.tokenizer is None else TokenizerText(loaded.tokenizer)
        stops = loaded.stop_tokens
        return cls(loaded.model, text, stop_tokens=stops, slots=slots, context_length=context_length, name=loaded.name)

    def _release(self) -> None:
        self.model = None
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # torch would keep it for itself
