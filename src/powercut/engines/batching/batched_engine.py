"""What engines share that compute passes in this process: requests of one event loop at a time join its batch."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from powercut.engines.batching.batch import PATIENCE, Batch
from powercut.engines.batching.cache import Cache
from powercut.engines.batching.member import Member
from powercut.engines.batching.next_pass import Pace
from powercut.engines.protocol import KeepGoing, Request, Usage, check_request
from powercut.engines.sequence import Sequence
from powercut.errors import EngineError
from powercut.text import Text, TokenizerText, special_tokens
from powercut.trace import Trace

CLOSED = "this engine is closed: load the model again"
FORKED = "this engine was loaded in the process of which this one is a fork, without its threads: load the model here"


class BatchedEngine:
    """Decodes up to ``slots`` requests at once in ``cache``, each of up to ``context_length`` tokens, prompt included.

    ``stop_tokens`` end a completion; ``about`` is what ``describe()`` says.
    """

    def __init__(
        self,
        cache: Cache,
        text: TokenizerText | None,
        *,
        stop_tokens: Collection[int],
        slots: int,
        context_length: int,
        vocab_size: int,
        name: str,
        about: str,
    ) -> None:
        self.name = name
        self.text: Text | None = text
        self._decode_now = None if text is None else text.decode_now
        self.stop_tokens = frozenset(stop_tokens)
        self.concurrency = slots
        self.context_length = context_length
        self.vocab_size = vocab_size
        self.usage = Usage()
        self._cache: Cache | None = cache
        self._about = about
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="powercut-decode")
        self._pace = Pace()
        self._batch: Batch | None = None  # of the event loop that asked last
        self._closed = False
        self._process = os.getpid()
        self._lock = threading.Lock()  # of the two above: callers may be in several threads

    @property
    def idle(self) -> int:
        """How many more requests could join the batch."""
        return max(0, self.concurrency - len(self._batch or ()))

    def describe(self) -> str:
        """One line: the model, where it runs, the memory that it and its cache take, and how requests are computed."""
        return self._about

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
        if os.getpid() != self._process:
            raise EngineError(FORKED)
        with self._lock:
            if self._closed or self._cache is None:
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
        self._cache = None
        self._release()

    def _release(self) -> None:
        """Give back the model, if it is still held."""
        raise NotImplementedError
