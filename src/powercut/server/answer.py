"""How an answer travels: whole, or as server-sent events, for as long as its client is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from powercut.server.ongoing import Ongoing
from powercut.server.refusals import Refusal, refusal
from powercut.server.shape import Json, encoded, state

KEEP_ALIVE = 10.0
"""Seconds of silence after which a stream has a comment, so that nothing in between hangs up."""

_NO_BUFFER = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no", "Connection": "keep-alive"}
"""Tells proxies to pass each event on at once."""


class JsonAnswer(Response):
    """JSON in UTF-8."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body."""
        return encoded(content)


def refused(why: Refusal) -> Response:
    """The answer that is an error."""
    return JsonAnswer(why.body, why.status, headers=why.headers)


class Answer(Response):
    """The answer to a request that is being answered. A client that goes away leaves it at once."""

    def __init__(self, ongoing: Ongoing) -> None:
        super().__init__()
        self._ongoing = ongoing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._ongoing.read():
            sending = asyncio.create_task(self._send(scope, receive, send))
            leaving = asyncio.create_task(_gone(receive))
            try:
                await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    await sending
            finally:
                for task in (sending, leaving):
                    task.cancel()
                await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._ongoing.order.stream:
            await _stream(self._ongoing, send)
        else:
            try:
                await self._ongoing.complete()
                response: Response = JsonAnswer(await self._ongoing.shape.whole(self._ongoing))
            except Exception as error:
                response = refused(refusal(error))
            await response(scope, receive, send)
        self._ongoing.told = True


async def _gone(receive: Receive) -> None:
    """Wait until the client hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stream(ongoing: Ongoing, send: Send) -> None:
    headers = {"content-type": "text/event-stream; charset=utf-8", **_NO_BUFFER}
    start: Message = {"type": "http.response.start", "status": 200}
    await send({**start, "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()]})
    number = 0
    async for event in _events(ongoing):
        await send({"type": "http.response.body", "body": _written(event, number), "more_body": True})
        number += isinstance(event, dict)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _written(event: Json | str, number: int) -> bytes:
    """An event as it is sent, or a comment. Those of /v1/responses have a type, which is their name too."""
    if isinstance(event, str):
        return event.encode() + b"\n\n"
    if not isinstance(kind := event.get("type"), str):
        return b"data: " + encoded(event) + b"\n\n"
    return f"event: {kind}\ndata: ".encode() + encoded({**event, "sequence_number": number}) + b"\n\n"


async def _events(ongoing: Ongoing) -> AsyncIterator[Json | str]:
    """The stream; an error in the middle of it is an event too."""
    shape = ongoing.shape
    try:
        for each in shape.opening(ongoing):
            yield each
        async for event in _texts(ongoing):
            yield event
        await ongoing.complete()
        for each in shape.closing(ongoing):
            yield each
    except Exception as error:
        yield shape.failing(ongoing, error)
    if shape.ends is not None:
        yield f"data: {shape.ends}"


async def _texts(ongoing: Ongoing) -> AsyncIterator[Json | str]:
    """Text and progress of all choices as they come, until the last has ended; a comment where that is long in coming.

    A chain may move for long without a word for the client.
    """
    loop = asyncio.get_running_loop()
    tellers = [_Teller(ongoing, index) for index in range(len(ongoing.choices))]
    seen, spoke, done = -1, loop.time(), False
    while tellers and not done:
        with suppress(TimeoutError):
            seen = await ongoing.changed(seen, spoke + KEEP_ALIVE)
        done = ongoing.done  # before the telling: what comes while a slow client reads is told in another round
        for teller in tellers:
            async for event in teller.news():
                yield event
                spoke = loop.time()
        tellers = [teller for teller in tellers if not teller.ended]
        if loop.time() >= spoke + KEEP_ALIVE:
            yield ": at work"
            spoke = loop.time()


class _Teller:
    """Tells of one choice what is new, each time that it is asked, until it has ``ended``."""

    def __init__(self, ongoing: Ongoing, index: int) -> None:
        self.ended = False
        self._ongoing, self._index = ongoing, index
        self._sent, self._shown = "", 0

    async def news(self) -> AsyncIterator[Json | str]:
        """The events of its progress, of its text and of its end."""
        ongoing, index, shape = self._ongoing, self._index, self._ongoing.shape
        choice = ongoing.choices[index]
        if ongoing.order.progress and choice.events > self._shown:
            self._shown = choice.events
            line = state(choice)
            yield shape.progress(ongoing, index, line) or f": {line}"
        self.ended, text = choice.completion is not None, choice.text
        if not text.startswith(self._sent):
            raise Refusal(500, "the text changed after it was sent: ask again without stream", kind="server_error")
        more = text[len(self._sent) :]
        if more or (self.ended and ongoing.order.logprobs):
            self._sent = text
            yield await shape.text(ongoing, index, more)
        if self.ended:
            for each in shape.end(ongoing, index):
                yield each
