"""One request on its way through one or several streams: what arrived, what is still missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from powercut.engines.http.dialects import Chunk
from powercut.engines.protocol import KeepGoing, Request
from powercut.engines.stops import StopWatch
from powercut.engines.top_k import trace_from_top_k
from powercut.trace import Trace


class Decode:
    """The tokens that came for ``request`` so far. ``stop_seen``: the stop token of the server's own that ended it."""

    def __init__(self, request: Request, keep_going: KeepGoing | None, watch: StopWatch) -> None:
        self.request = request
        self.prefilled = self.count = 0
        self.finished = False
        self.stop_seen: int | None = None
        self._keep_going, self._watch = keep_going, watch
        self._wanted = True
        self._pieces: list[Trace] = []

    @property
    def done(self) -> bool:
        """Whether nothing is missing, or no more is wanted."""
        return self.finished or not self._wanted or self.count == self.request.max_new_tokens

    def rest(self) -> Request:
        """The request for what is missing. Its noise is new: the tokens that came depend on the old."""
        if not self.count:
            return self.request
        context = np.concatenate((self.request.context, *(piece.tokens for piece in self._pieces)))
        prompt_length = self.request.prompt_length
        return replace(
            self.request,
            context=context,
            max_new_tokens=self.request.max_new_tokens - self.count,
            seed=int(np.random.SeedSequence([self.request.seed, self.count]).generate_state(1, np.uint64)[0] >> 1),
            prompt_length=len(self.request.context) if prompt_length is None else prompt_length,
        )

    def take(self, chunk: Chunk, *, stop: bool) -> None:
        """Take in the next tokens and show them; ``stop``: the server says that the last of them completes a stop."""
        n = len(chunk.tokens)
        at = next((i for i, token in enumerate(chunk.tokens.tolist(), 1) if self._watch.completes(token)), None)
        if at is None and stop:
            self.stop_seen = int(chunk.tokens[-1])
        self.finished = at is not None or stop
        piece = self._add(chunk, n if at is None else at)
        if self._keep_going is not None and not self._keep_going(piece):
            self._wanted = False

    def take_unseen(self, chunk: Chunk) -> None:
        """Keep tokens that had come already when no more were wanted."""
        self._add(chunk, len(chunk.tokens))

    def trace(self) -> Trace:
        """Everything that came."""
        return replace(Trace.join(self._pieces), prefilled=self.prefilled)

    def _add(self, chunk: Chunk, n: int) -> Trace:
        n = min(n, self.request.max_new_tokens - self.count)
        assert self.request.top_k is not None
        piece = trace_from_top_k(
            chunk.tokens[:n],
            chunk.ids[:n],
            chunk.logprobs[:n],
            top_k=self.request.top_k,
            temperature=self.request.temperature,
            finished=self.finished,
        )
        self._pieces.append(piece)
        self.count += n
        return piece
