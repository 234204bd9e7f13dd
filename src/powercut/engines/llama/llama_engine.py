"""The llama engine: a GGUF file decoded by llama.cpp with continuous batching, on the CPU or a GPU.

Concurrent ``extend`` calls share each pass (``engines/batching``), and what llama.cpp's cells hold of prefixes seen
before is reused (``llama_slots.py``). The base law, the proposal and the entropy are computed in float64 from the
model's logits (``engines/laws.py``).
"""

from __future__ import annotations

import os
import warnings
from typing import Any

from powercut.engines.batching.apart import run_apart
from powercut.engines.batching.batched_engine import BatchedEngine
from powercut.engines.batching.next_pass import MOST_TOKENS
from powercut.engines.llama.choose_slots import choose_slots, why_uncut
from powercut.engines.llama.context import Context, context_options
from powercut.engines.llama.gguf_model import GgufModel, machine_memory
from powercut.engines.llama.gguf_tokenizer import GgufTokenizer
from powercut.engines.llama.library import buffer_bytes
from powercut.errors import SettingError
from powercut.models.converting import DEFAULT_MODEL, require_gguf
from powercut.models.gguf_files import find_gguf
from powercut.text import TokenizerText

DEFAULT_LENGTH = 4096
_MOST_THREADS = 512
"""llama.cpp has no more, and would take a number modulo 2^32."""

_GIB = 2**30


class LlamaEngine(BatchedEngine):
    """Decodes up to ``slots`` requests at once, each of up to ``context_length`` tokens, prompt included.

    llama.cpp's cells for ``slots * context_length`` tokens are allocated here; context_length None means the model's
    own maximum, at most 4096. ``threads`` None is ``OMP_NUM_THREADS``, else every core. ``options`` are llama.cpp's
    own (``context_options``). A model whose memory cannot be cut decodes without prefix reuse, with a warning
    (``choose_slots.py``).

    Raises SettingError for sizes or parameters that the model or the machine cannot have.
    """

    def __init__(
        self,
        model: GgufModel,
        *,
        slots: int = 16,
        context_length: int | None = None,
        threads: int | None = None,
        name: str = "llama",
        options: Any = None,
    ) -> None:
        if slots < 1:
            raise SettingError(f"slots must be at least 1 (got {slots})")
        longest = model.longest or None
        if context_length is None:
            context_length = min(longest or DEFAULT_LENGTH, DEFAULT_LENGTH)
        if context_length < 2 or (longest is not None and context_length > longest):
            raise SettingError(
                f"context_length must be from 2 to {longest}, the model's maximum (got {context_length})"
            )
        threads = _default_threads() if threads is None else threads
        if not 1 <= threads <= _MOST_THREADS:
            raise SettingError(f"threads must be from 1 to {_MOST_THREADS} (got {threads})")
        cells = slots * context_length
        _check_memory(model, cells, slots, context_length)
        options = context_options({}) if options is None else options
        uncut = why_uncut(model, options)
        self._model = model
        self._context = Context(
            model,
            cells=cells,
            sequences=slots if uncut else 2 * slots,
            tokens=MOST_TOKENS + slots,
            threads=threads,
            options=options,
        )
        try:
            cache = run_apart(choose_slots, model, self._context, slots, context_length, uncut)
        except BaseException:
            self._context.close()
            raise
        if context_length <= model.rope_switch < self._context.cells:
            warnings.warn(
                f"llama.cpp takes this model's rotary embeddings for contexts of more than {model.rope_switch} tokens, "
                f"as it goes by slots * context_length: for those of shorter ones keep that within {model.rope_switch}",
                stacklevel=3,
            )
        sizes = buffer_bytes(self._context.said)
        self.weight_bytes: int = model.weight_bytes
        """Memory that the model takes, in bytes."""
        self.cache_bytes: int = sizes.pop("KV", 0) + sizes.pop("RS", 0) + cache.nbytes
        """Memory allocated for cached tokens, in bytes."""
        self.work_bytes: int = sum(sizes.values())
        """Memory in which llama.cpp computes, in bytes."""
        tokenizer = GgufTokenizer(model)
        text = TokenizerText(tokenizer)
        where = f"{threads} threads" if model.devices == ["CPU"] else ", ".join(model.devices)
        super().__init__(
            cache,
            text,
            stop_tokens={*model.ends(), *text.turn_end},
            slots=slots,
            context_length=context_length,
            vocab_size=model.vocab_size,
            name=name,
            about=f"{name} ({model.about}) by llama.cpp on {where}: weights and vocabulary "
            f"{self.weight_bytes / _GIB:.2f} GiB, cache {self.cache_bytes / _GIB:.2f} GiB ({slots} slots of "
            f"{context_length} tokens), work space {self.work_bytes / _GIB:.2f} GiB, {cache.way}",
        )

    @classmethod
    def load(
        cls,
        model: str | None = None,
        *,
        slots: int = 16,
        context_length: int | None = None,
        threads: int | None = None,
        gpu_layers: int | None = None,
        **parameters: Any,
    ) -> LlamaEngine:
        """Load a GGUF file, ``REPO/FILE.gguf`` of the hub, or (None) the bundled model.

        Of a file in parts give the first. ``gpu_layers`` None: all, where llama.cpp was built for a GPU.
        ``parameters`` are llama.cpp's (``flash_attn_type``, ``type_k``, ``rope_freq_base``, ...).
        Raises EngineError if the model cannot be loaded, SettingError for an unusable option.
        """
        name = DEFAULT_MODEL if model is None else os.fspath(model)
        path = require_gguf() if name == DEFAULT_MODEL else find_gguf(name)
        options = context_options(parameters)
        loaded = GgufModel(path, gpu_layers)
        try:
            return cls(loaded, slots=slots, context_length=context_length, threads=threads, name=name, options=options)
        except BaseException:
            loaded.close()
            raise

    def _release(self) -> None:
        self._context.close()
        self._model.close()


def _default_threads() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_memory(model: GgufModel, cells: int, slots: int, length: int) -> None:
    """Raise SettingError before the system ends this process for the memory it asks."""
    total, needed = machine_memory(), cells * model.token_bytes()
    if total is not None and model.devices == ["CPU"] and needed + model.weight_bytes > total:
        raise SettingError(
            f"no memory for a cache of {slots} slots of {length} tokens ({needed / _GIB:.1f} GiB): lower slots or "
            "context_length"
        )
