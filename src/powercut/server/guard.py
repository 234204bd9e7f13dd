"""What every request passes: its path tidied, its key checked, its body bounded, its end counted."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from powercut.server.answer import refused
from powercut.server.metrics import Metrics
from powercut.server.refusals import Refusal

_OPEN = {"/health"}
"""Paths that need no key."""


class Guard:
    """Lets a request through to ``app`` if it has one of ``keys`` (none: all may) and at most ``most_bytes``.

    ``opens`` says of a request whether it needs no key: what it asks for is in the address that it was given.
    Doubled and trailing slashes of its path are as if they were not there, and so is an address before it. HEAD is
    answered as GET is, without the body.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Sequence[str],
        most_bytes: int,
        metrics: Metrics,
        paths: set[str],
        opens: Callable[[Scope], bool],
    ) -> None:
        self._app, self._most_bytes, self._metrics, self._paths, self._opens = app, most_bytes, metrics, paths, opens
        self._keys = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = re.sub("/+", "/", re.sub("^https?://[^/]*", "", scope["path"])).rstrip("/") or "/"
        scope = {**scope, "path": path, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        start, status = time.perf_counter(), 499

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if path not in _OPEN and not self._opens(scope):
                self._check_key(scope)
            body = await self._read(scope, receive)
            await self._app(scope, _replayed(body, receive), noting)
        except Refusal as why:
            await refused(why)(scope, receive, noting)
        except asyncio.CancelledError:  # by the server, at its end, of what would keep it from that
            if status == 499:
                await refused(Refusal(503, "the server is about to end", kind="server_error"))(scope, receive, noting)
        finally:
            self._metrics.answered(path if path in self._paths else "other", status, time.perf_counter() - start)

    def _check_key(self, scope: Scope) -> None:
        """Raise Refusal without a right key; how long that takes tells nothing of the keys."""
        if not self._keys:
            return
        given = _digest(re.sub(b"^(?i:bearer) ", b"", _header(scope, b"authorization")).strip())
        right = [hmac.compare_digest(given, key) for key in self._keys]
        if not any(right):
            what = "no right key: send it as Authorization: Bearer KEY"
            raise Refusal(401, what, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. Raises Refusal if it is too long, before it is here."""
        too_long = Refusal(413, f"the body is longer than {self._most_bytes} bytes", code="request_too_large")
        if packed := _header(scope, b"content-encoding").decode("latin-1").strip().removeprefix("identity"):
            raise Refusal(415, f"Content-Encoding is {packed}: send the body as it is", code="unsupported_encoding")
        length = _header(scope, b"content-length")
        if length.isdigit() and int(length[:20]) > self._most_bytes:
            raise too_long
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refusal(499, "the client has gone")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._most_bytes:
                raise too_long
        return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """``receive``, its body given once more."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


def _header(scope: Scope, name: bytes) -> bytes:
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
