"""The embedded engine: a transformers model decoded with continuous batching, on the CPU or a GPU.

Concurrent ``extend`` calls share each forward pass (``batching.py``), and the keys and values of prefixes seen before
are reused (``slots.py``). The base law, the proposal and the entropy are computed in float64 from the model's logits
(``engines/laws.py``).
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from transformers import PreTrainedModel

from powercut.engines.protocol import KeepGoing, Request, Usage, check_request
from powercut.engines.sequence import Sequence
from powercut.engines.transformers.apart import run_apart
from powercut.engines.transformers.batching import PATIENCE, Batch
from powercut.engines.transformers.choose_cache import longest_context, make_cache, rope_switch
from powercut.engines.transformers.member import Member
from powercut.engines.transformers.next_pass import Pace
from powercut.engines.transformers.packed_linear import pack_linears
from powercut.errors import EngineError, SettingError
from powercut.models.loading import load_model
from powercut.text import Text, TokenizerText, special_tokens
from powercut.trace import Trace

DEFAULT_LENGTH = 4096
CLOSED = "this engine is closed: load the model again"


class TransformersEngine:
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
        self.name = name
        self.text: Text | None = text
        self._decode_now = None if text is None else text.decode_now
        self.model: Any = model
        self.stop_tokens = frozenset(stop_tokens)
        self.concurrency = slots
        self.context_length = context_length
        self.vocab_size = int(config.vocab_size)
        self.usage = Usage()
        self._cache: Any = run_apart(make_cache, model, slots, context_length)
        self.cache_bytes: int = self._cache.nbytes
        """Memory allocated for cached tokens, in bytes."""
        tensors = itertools.chain(self.model.parameters(), self.model.buffers())
        self.weight_bytes: int = sum(t.numel() * t.element_size() for t in tensors)
        """Memory that the model takes, in bytes."""
        self._about = self._line()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="powercut-decode")
        self._pace = Pace()
        self._batch: Batch | None = None  # of the event loop that asked last
        self._closed = False
        self._lock = threading.Lock()  # of the two above: callers may be in several threads

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

    @property
    def idle(self) -> int:
        """How many more requests could join the batch."""
        return max(0, self.concurrency - len(self._batch or ()))

    def describe(self) -> str:
        """One line: the model, where it runs, the memory that it and its cache take, and how requests are computed."""
        return self._about

    def _line(self) -> str:
        dtype = str(self.model.dtype).removeprefix("torch.")
        slots = f"2 x {self.concurrency} slots of {self.context_length} tokens"
        cache = f", cache {self.cache_bytes / 2**30:.2f} GiB ({slots})" if self.cache_bytes else ""
        about = f"{self.name} on {self.model.device} in {dtype}: weights {self.weight_bytes / 2**30:.2f} GiB{cache}"
        return f"{about}, {self._cache.way}"

    def check(self, request: Request) -> None:
        """Raise SettingError if ``request`` cannot fit, or asks for what this model does not have."""
        check_request(
            request,
            reads_text=self.text is not None,
            special=special_tokens(self.text),
            context_length=self.context_length,
            vocab_size=self.vocab_size,
        )

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        """Draw tokens until a stop, ``max_new_tokens``, or ``keep_going`` returning False (see ``Engine.extend``)."""
        self.check(request)
        sequence = Sequence(request, keep_going, self.stop_tokens, self._decode_now)
        try:
            if sequence.done:  # with the first token, which was drawn already
                return sequence.trace()
            while (member := self._join(sequence)) is None:
                await asyncio.sleep(PATIENCE)
            return await member.trace()
        finally:
            sequence.close()

    def _join(self, sequence: Sequence) -> Member | None:
        """Take a request into the batch of this event loop; None as long as another loop's may go on in a moment."""
        with self._lock:
            if self._closed:
                raise EngineError(CLOSED)
            if self._batch is None or not self._batch.here:
                if self._batch is not None and not self._batch.give_way("this engine went on in another event loop"):
                    return None
                self._batch = Batch(self._cache, self.usage, self._pace, self._thread)
            return self._batch.join(sequence)

    async def aclose(self) -> None:
        """Give back the memory of model and cache, and the thread. Requests that still run fail."""
        with self._lock:
            batch, self._batch, self._closed = self._batch, None, True
        if batch is not None:
            await batch.end(CLOSED)
        self._thread.shutdown()
        self._cache = self.model = None
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # torch would keep it for itself
