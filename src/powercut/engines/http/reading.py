"""From what servers stream to a sequence: one request for what is missing, read to its end, then perhaps the next."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import numpy as np

from powercut.engines.http.api import RefusedError, UnavailableError
from powercut.engines.http.dialects import Chunk, Json
from powercut.engines.http.pool import Server, look_again
from powercut.engines.laws import Drawn, redraw
from powercut.engines.protocol import Request, Usage
from powercut.engines.sequence import Sequence
from powercut.errors import EngineError, one_line

log = logging.getLogger("powercut")


class Reading:
    """Asks servers for what ``sequence`` lacks, and takes it in as it comes.

    ``ends`` gets the stop tokens of the servers' own that are seen. ``heard`` is when a server last gave a token, or
    was asked (monotonic clock).
    """

    def __init__(self, sequence: Sequence, usage: Usage, stop_ids: list[int], ends: set[int]) -> None:
        self._sequence, self._usage, self._stop_ids, self._ends = sequence, usage, stop_ids, ends
        self._next_is_hidden = False  # also when it was another server that hid it: what was drawn is not undone
        self._replaced = False  # a token of this stream: the rest of it followed another one
        self.heard = 0.0
        self._deadline, self._within = asyncio.timeout(None), 0.0

    async def finish_at(self, server: Server, within: float) -> None:
        """Go on until the sequence is done: a token within so many seconds, and within ``read_timeout`` after each.

        Neither comments in a stream nor single bytes or slow headers renew the deadline. Raises UnavailableError if a
        stream breaks off or no token comes, SettingError if the server refuses to give so many log-probabilities.
        """
        self.heard = time.monotonic()
        self._deadline, self._within = asyncio.timeout(within), within
        try:
            async with self._deadline:
                if server.away:
                    await look_again(server)
                while not self._sequence.done:
                    if self._next_is_hidden:
                        await self._draw_hidden(server)
                    else:
                        await self._read_stream(server)
        except TimeoutError:
            if self._deadline.expired():
                raise server.api.no_answer(self._within) from None
            raise
        except RefusedError as error:
            if (why := server.refusal(error, self._sequence.request.top_k or 0)) is not None:
                raise why from error
            raise

    def _note_token(self, server: Server) -> None:
        self.heard, self._within = time.monotonic(), server.api.read_timeout
        self._deadline.reschedule(asyncio.get_running_loop().time() + self._within)
        server.note_token()

    async def _read_stream(self, server: Server) -> None:
        """Read one stream, to its end, to where a token is hidden or to one that was replaced."""
        sequence, request = self._sequence, self._sequence.rest()
        payload = server.dialect.payload(server.model, request, self._stop_ids)
        self._replaced = False
        received = prefilled = 0
        held: Chunk | None = None
        end: str | None = None
        try:
            async with aclosing(_events(server, payload)) as events:
                async for event in events:
                    chunk = server.read(event, received)
                    n = len(chunk.tokens)
                    if n:
                        self._note_token(server)
                    if not received:
                        prefilled = len(request.context)  # unless the server says better, or nothing at all
                    prefilled = prefilled if chunk.prefilled is None else min(chunk.prefilled, len(request.context))
                    end = chunk.end or end
                    received += n
                    hidden = _hides_a_token(server, chunk, received)
                    self._usage.decoded += 0 if hidden else n
                    # Where only the next event tells whether a token was the last, each waits for it.
                    ready, held = (held, chunk) if server.dialect.end_apart else (chunk, None)
                    if ready is not None and len(ready.tokens) and not sequence.done:
                        self._take(server, ready, stopped=chunk.end == "stop" and not hidden)
                    if self._replaced:
                        return
                    if hidden:
                        self._next_is_hidden = True
                        return
                    if sequence.done and end is None:  # else what follows are the server's counts
                        if held is not None and not sequence.finished:
                            self._take(server, held)
                        return
        finally:
            self._count_context(request, prefilled if received else None)
        if sequence.done:
            return
        if end == "length":
            raise EngineError(f"{server} ended {request.max_new_tokens - received} tokens early: is its context full?")
        if end == "stop":
            raise EngineError(f"{server} hides the token that ends a completion; it must return it like any other")
        how = f" ({one_line(server.api.clean(str(end)), 60)})" if end else ""
        raise UnavailableError(f"{server} broke off its answer{how}", broke=True)

    async def _draw_hidden(self, server: Server) -> None:
        """Draw the token that a server hid.

        Given what came before and that it was hidden, its law is the proposal's, restricted to the tokens that are
        hidden there. The server tells them and their log-probabilities in answer to one request that has it draw a
        token that it shows. What it drew after the hidden token is thrown away: it followed another one.
        """
        sequence, hiding, visible = self._sequence, server.dialect.hiding, server.visible
        request = replace(sequence.rest(), max_new_tokens=1)
        if hiding is None or visible is None:
            raise EngineError(f"{server} goes on for one that hid a token, and cannot tell which")
        payload = hiding.force(server.dialect.payload(server.model, request, self._stop_ids), visible)
        async with aclosing(_events(server, payload)) as events:
            async for event in events:
                chunk = server.read(event, 0)
                if len(chunk.tokens):
                    break
            else:
                raise UnavailableError(f"{server} broke off its answer", broke=True)
        self._count_context(request, len(request.context) if chunk.prefilled is None else chunk.prefilled)
        self._usage.decoded += 1
        noise = np.random.default_rng(np.random.SeedSequence([sequence.request.seed, sequence.count, 1]))
        try:
            drawn = draw_among(hiding.hidden(event), chunk, request, noise.random(), sequence.barred)
        except (EngineError, KeyError, TypeError, ValueError) as error:
            raise server.wrong(EngineError(f"it hid a token: {error}")) from None
        self._next_is_hidden = False
        self._note_token(server)
        sequence.take(*drawn)

    def _take(self, server: Server, chunk: Chunk, *, stopped: bool = False) -> None:
        """Take in tokens and show them; ``stopped``: the server says that the last of them completes a stop."""
        sequence, request = self._sequence, self._sequence.request
        try:
            drawn, self._replaced = sequence.read_rows(chunk.tokens, chunk.ids, chunk.logprobs)
        except EngineError as error:
            raise server.wrong(error) from error
        stopped = stopped and not self._replaced
        sequence.take(*drawn, stopped=stopped)
        if stopped and sequence.finished and sequence.last_token not in request.stop_ids:
            self._ends.add(sequence.last_token)
        if chunk.repeated and not server.warned:
            server.warned = True
            log.warning("%s sends all log-probabilities again with each token: %s", server, server.dialect.brief)

    def _count_context(self, request: Request, prefilled: int | None) -> None:
        """Count the context tokens that were computed; None: none came back, and nothing is known."""
        if prefilled is not None:
            self._sequence.prefilled += prefilled
            self._usage.prefilled += prefilled
            self._usage.reused += max(0, len(request.context) - prefilled)


def draw_among(
    tokens: frozenset[int], chunk: Chunk, request: Request, uniform: float, barred: frozenset[int] = frozenset()
) -> Drawn:
    """One token and its laws, drawn at ``uniform`` in [0, 1) from the proposal, restricted to ``tokens``.

    The first row of ``chunk`` gives the proposal, under which ``barred`` tokens are impossible. Raises EngineError if
    it has none of ``tokens``.
    """
    assert request.top_k is not None
    law: dict[str, Any] = {"top_k": request.top_k, "temperature": request.temperature, "barred": barred}
    drawn = redraw(chunk.ids[:1], chunk.logprobs[:1], uniform, among=tokens, **law)
    if drawn is None:
        raise EngineError("it is none of the most likely ones that this server hides")
    return drawn


def _events(server: Server, payload: Json) -> AsyncGenerator[Any, None]:
    return server.api.events(server.dialect.path, payload)


def _hides_a_token(server: Server, chunk: Chunk, received: int) -> bool:
    """Whether the server has drawn more tokens than it has shown. Raises EngineError if it has shown more."""
    total = received if chunk.total is None else chunk.total
    if total < received:
        raise EngineError(f"{server} sends tokens twice: {received} came of {total}")
    if total > received and server.dialect.hiding is None:
        raise EngineError(f"{server} hides tokens: {received} came of {total}")
    return total > received
