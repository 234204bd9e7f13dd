"""The steps of the last answers, kept in memory where whoever runs the server asks for it, and a page of each."""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import zlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from powercut.chains import Chains
from powercut.durable import encode
from powercut.engines.protocol import Engine
from powercut.errors import SettingError
from powercut.records import Completed
from powercut.server.branching import HEADERS
from powercut.server.choice import Choice
from powercut.server.order import Order
from powercut.server.refusals import Refusal
from powercut.step_lines import StepLines
from powercut.trace import Event
from powercut.view.page import view_page

_LEVEL = 4
"""Of compression."""

MOST_BYTES = 2**30
"""Of all steps together, compressed: the oldest answers' are dropped beyond."""

LARGEST = 2**25
"""Bytes of the steps of one answer, compressed; of a larger one none are kept. It is 16 long chains."""

WAITING = 4
"""Pages that may wait while one is made; who asks for one more is told to come again."""


class View:
    """The steps of one answer, compressed. ``path`` leads to its page; the token there opens it without a key.

    ``grew`` is called with it, and with the number of bytes, whenever it has grown; it may drop it. ``packed`` is empty
    before the first step and after ``drop``; ``too_large`` says that it was dropped for its size.
    """

    def __init__(self, answer: str, order: Order, engine: Engine, grew: Callable[[View, int], None]) -> None:
        self.token = secrets.token_urlsafe(24)
        self.path = f"/view/{answer}?token={self.token}"
        self.too_large = False
        facts = {"sampler": order.sampler_name, "seed": order.seed, "model": order.model}
        self._drawn_with: dict[str, Any] = {**facts, "settings": asdict(order.sampler)}
        self._text, self._grew = engine.text, grew
        self._packed = bytearray()
        self._packer: _Packer | None = None  # made with the first line: most of those who wait have none
        self._closed = False

    def add(self, choice: Choice, event: Event) -> None:
        """Keep an event of a choice."""
        if (packer := self._open()) is not None:
            self._take(packer.event(choice, event))

    def end(self, choice: Choice) -> None:
        """Keep what a choice came to."""
        if choice.completion is not None and (packer := self._open()) is not None:
            self._take(packer.completion(Completed.of(choice.completion, **self._drawn_with, meta={})))

    def close(self) -> None:
        """Add nothing any more, and free what packing takes."""
        packer, self._packer, self._closed = self._packer, None, True
        if packer is not None:
            self._take(packer.flush())

    def drop(self) -> int:
        """Keep nothing any more, also if it is still being drawn. Returns the number of bytes that this frees."""
        freed = len(self._packed)
        self._packer, self._closed = None, True
        self._packed = bytearray()
        return freed

    def packed(self) -> bytes:
        """What there is so far, for ``page_of``."""
        return bytes(self._packed) + (b"" if self._packer is None else self._packer.rest())

    @property
    def size(self) -> int:
        """Bytes that are packed."""
        return len(self._packed)

    def _open(self) -> _Packer | None:
        if self._packer is None and not self._closed:
            self._packer = _Packer(StepLines(self._text, **self._drawn_with))
        return self._packer

    def _take(self, packed: bytes) -> None:
        self._packed += packed
        self._grew(self, len(packed))


class _Packer:
    """Writes and compresses lines, in about 200 kB and what the last particles take."""

    def __init__(self, lines: StepLines) -> None:
        self._lines, self._packer = lines, zlib.compressobj(_LEVEL)

    def event(self, choice: Choice, event: Event) -> bytes:
        return b"".join([self._packer.compress(encode(line)) for line in self._lines.event(*choice.place, event)])

    def completion(self, completed: Completed) -> bytes:
        return self._packer.compress(encode(self._lines.completion(completed)))

    def flush(self) -> bytes:
        return self._packer.flush()

    def rest(self) -> bytes:
        """What ``flush`` would give now."""
        return self._packer.copy().flush()


def page_of(packed: bytes, title: str) -> str:
    """The page of an answer's steps. Raises SettingError if there are none."""
    chains = Chains()
    for line in zlib.decompress(packed).splitlines() if packed else ():
        chains.add(json.loads(line))
    return view_page(chains, title)


class Views:
    """The views of the last ``most`` answers that were begun, by their ids; of fewer, if those are too large."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._views: OrderedDict[str, View] = OrderedDict()
        self._bytes = 0
        self._maker = ThreadPoolExecutor(1, "view")  # one page at a time: a page keeps Python from all else
        self._asked = 0

    def begin(self, answer: str, order: Order, engine: Engine) -> View | None:
        """A new one, in place of the oldest if there are too many; None if none are kept."""
        if not self._most:
            return None
        view = self._views[answer] = View(answer, order, engine, self._grew)
        while len(self._views) > self._most:
            self._drop_oldest()
        return view

    def _grew(self, view: View, by: int) -> None:
        self._bytes += by
        if view.size > LARGEST:
            view.too_large = True
            self._bytes -= view.drop()
        while self._bytes > MOST_BYTES:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._bytes -= self._views.popitem(last=False)[1].drop()

    def opens(self, scope: Scope) -> bool:
        """Whether a request has the token of the page that it asks for."""
        view = self._views.get(scope["path"].removeprefix("/view/"))
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return view is not None and hmac.compare_digest(given.encode(), view.token.encode())

    def add_route(self, app: FastAPI) -> None:
        """The route of the pages."""

        @app.get("/view/{answer}", response_class=HTMLResponse)
        async def view(answer: str) -> Response:
            """An answer token by token and step by step, as one page that loads nothing."""
            found = self._views.get(answer)
            if found is None:
                what = f"they are of the last {self._most}, or of as many as take less than {MOST_BYTES:,} bytes"
                raise Refusal(404, f"no steps of such an answer are kept: {what}")
            if found.too_large:
                raise Refusal(404, f"this answer's steps took more than {LARGEST:,} bytes: they are not kept")
            if self._asked > WAITING:
                message = "other pages are being made: come again"
                raise Refusal(503, message, kind="server_error", headers={"Retry-After": "5"})
            self._asked += 1
            try:  # in a thread: the page of a long chain takes a second or two
                loop = asyncio.get_running_loop()
                page = await loop.run_in_executor(self._maker, page_of, found.packed(), answer)
            except SettingError:
                raise Refusal(404, "there is no step of this answer, or none yet") from None
            finally:
                self._asked -= 1
            return HTMLResponse(page, headers=HEADERS)
