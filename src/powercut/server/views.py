"""The steps of the last answers, kept in memory where whoever runs the server asks for it, and a page of each."""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import zlib
from collections import OrderedDict
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


class View:
    """The steps of one answer, compressed. ``path`` leads to its page; the token there opens it without a key."""

    def __init__(self, answer: str, order: Order, engine: Engine) -> None:
        self.token = secrets.token_urlsafe(24)
        self.path = f"/view/{answer}?token={self.token}"
        facts = {"sampler": order.sampler_name, "seed": order.seed, "model": order.model}
        self._drawn_with: dict[str, Any] = {**facts, "settings": asdict(order.sampler)}
        self._lines = StepLines(engine.text, **self._drawn_with)
        self._packer, self._packed = zlib.compressobj(_LEVEL), bytearray()
        self._dropped = False

    def add(self, choice: Choice, event: Event) -> None:
        """Keep an event of a choice."""
        if not self._dropped:
            for line in self._lines.event(*choice.place, event):
                self._packed += self._packer.compress(encode(line))

    def end(self, choice: Choice) -> None:
        """Keep what a choice came to."""
        if choice.completion is not None and not self._dropped:
            completed = Completed.of(choice.completion, **self._drawn_with, meta={})
            self._packed += self._packer.compress(encode(self._lines.completion(completed)))

    def drop(self) -> None:
        """Keep nothing any more, also if it is still being drawn."""
        self._dropped = True
        self._packed.clear()

    def packed(self) -> bytes:
        """What there is so far, for ``page_of``."""
        return bytes(self._packed) + self._packer.copy().flush()


def page_of(packed: bytes, title: str) -> str:
    """The page of an answer's steps. Raises SettingError if there are none."""
    chains = Chains()
    for line in zlib.decompress(packed).splitlines():
        chains.add(json.loads(line))
    return view_page(chains, title)


class Views:
    """The views of the last ``most`` answers that were begun, by the answers' ids."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._views: OrderedDict[str, View] = OrderedDict()

    def begin(self, answer: str, order: Order, engine: Engine) -> View | None:
        """A new one, in place of the oldest if there are too many; None if none are kept."""
        if not self._most:
            return None
        view = self._views[answer] = View(answer, order, engine)
        while len(self._views) > self._most:
            self._views.popitem(last=False)[1].drop()
        return view

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
                raise Refusal(404, f"no steps of such an answer are kept: they are of the last {self._most}")
            try:  # in a thread: the page of a long chain takes a second or two
                page = await asyncio.to_thread(page_of, found.packed(), answer)
            except SettingError:
                raise Refusal(404, "there is no step of this answer, or none yet") from None
            return HTMLResponse(page, headers=HEADERS)
