"""Talking to one server: what every call shares. Failures become one line, without the key."""

from __future__ import annotations

import asyncio
import codecs
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, cast

import httpx

from powercut.engines.http.addresses import KEY, OPENAI_KEY, on_this_machine, read_key, without_key
from powercut.engines.http.connections import Connections
from powercut.errors import EngineError, one_line

LARGEST_ANSWER = 64 * 2**20
"""Bytes of one event of a stream, or of one answer: what is longer is given up before it fills the memory."""

_PASSING = {408, 425, 429}

_FIELDS = {b"data", b"error", b"event", b"id", b"retry", b""}
"""How lines of an event begin; the last is that of comments, and of the empty line after an event."""


class RefusedError(EngineError):
    """The server understood and said no: asking again does not help. ``reason`` is its message."""

    def __init__(self, text: str, status: int, reason: str) -> None:
        super().__init__(text)
        self.status, self.reason = status, reason

    @property
    def no_path(self) -> bool:
        """Whether the server does not know what it was asked for."""
        return self.status in (404, 405, 501)


class UnavailableError(EngineError):
    """The server is away or failed; asking again may help.

    ``status`` is what HTTP says, if it answered at all; ``retry_after`` are the seconds it asks to wait. ``broke`` says
    that the connection broke after the request was sent, ``slow`` that nothing came for too long.
    """

    def __init__(
        self,
        text: str,
        *,
        status: int | None = None,
        retry_after: float = 0.0,
        broke: bool = False,
        slow: bool = False,
    ) -> None:
        super().__init__(text)
        self.status, self.retry_after, self.broke, self.slow = status, retry_after, broke, slow

    @property
    def later(self) -> bool:
        """Whether the server is up and says that it will serve later: it loads its model, or names a time."""
        return self.retry_after > 0 or (self.status == 503 and "loading" in str(self).lower())


class Api:
    """A server at ``root`` (no path), with the key for it. Timeouts in seconds: to connect, and from token to token.

    It may be used from one event loop after another. Raises SettingError for a key that cannot be sent.
    """

    def __init__(self, root: str, *, connect: float = 10.0, read: float = 300.0) -> None:
        self.root, self.read_timeout = root, read
        self._key = read_key(root)
        headers = {"Accept-Encoding": "identity"}  # compressing would hold events back
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        timeout = httpx.Timeout(None, connect=connect)
        self._connections = Connections(headers, timeout, direct=on_this_machine(root))

    def __repr__(self) -> str:
        return f"Api({self.root!r})"

    async def get(self, path: str) -> Any:
        """The JSON at ``path``. Raises RefusedError or UnavailableError, EngineError if it is no JSON."""
        return await self._ask("GET", path, None)

    async def post(self, path: str, body: Any) -> Any:
        """The JSON that answers ``body``. Raises as ``get`` does."""
        return await self._ask("POST", path, body)

    async def events(self, path: str, body: Any) -> AsyncGenerator[Any, None]:
        """The events that answer ``body``, each JSON. Closing this closes the stream, and the server drops the request.

        It waits without end. Raises as ``get`` does; EngineError for an event that is no JSON object or too large.
        """
        with self._failures():
            async with (
                self._opened("POST", path, body) as response,
                aclosing(lines(response.aiter_bytes(), self.root)) as found,
            ):
                async for line in found:
                    if (event := self._event(line)) is not None:
                        yield event

    async def aclose(self) -> None:
        """Close all connections, those in use too."""
        await self._connections.aclose()

    def no_answer(self, seconds: float) -> UnavailableError:
        """What it is when nothing came for so long."""
        named = " (read_timeout)" if seconds >= self.read_timeout else ""
        return UnavailableError(f"nothing came from {self.root} for {seconds:.3g} s{named}", slow=True)

    async def _ask(self, method: str, path: str, body: Any) -> Any:
        try:
            async with asyncio.timeout(self.read_timeout):
                with self._failures():
                    async with self._opened(method, path, body) as response:
                        return self._json(await self._content(response))
        except TimeoutError:
            raise self.no_answer(self.read_timeout) from None

    @asynccontextmanager
    async def _opened(self, method: str, path: str, body: Any) -> AsyncIterator[httpx.Response]:
        """An answer whose head has come and says 200.

        A connection that was kept from an earlier call may turn out to be dead (llama-server closes it after each
        stream): then the call is made again on the next one, until one was new.
        """
        new = False

        async def look(event: str, _: Any) -> None:
            nonlocal new
            new |= event == "connection.connect_tcp.started"

        client = self._connections.client()
        while True:
            request = client.build_request(method, self.root + path, json=body, extensions={"trace": look})
            try:
                response = await client.send(request, stream=True)
                break
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if new:
                    raise
        try:
            if response.status_code != 200:
                raise self._refusal(response, await self._content(response))
            yield response
        finally:
            await response.aclose()

    async def _content(self, response: httpx.Response) -> bytes:
        parts, size = [], 0
        async for part in response.aiter_bytes():
            parts.append(part)
            size += len(part)
            if size > LARGEST_ANSWER:
                raise EngineError(f"{self.root} gives an answer of more than {LARGEST_ANSWER >> 20} MiB")
        return b"".join(parts)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Word the failures of a connection."""
        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise EngineError(f"{self.root} is no address of a server ({self.clean(str(error))})") from None
        except httpx.DecodingError as error:
            raise EngineError(
                f"{self.root} gives an answer that cannot be decoded ({self.clean(str(error))})"
            ) from None
        except (httpx.HTTPError, OSError) as error:
            broke = isinstance(error, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError)
            what = one_line(self.clean(str(error)) or type(error).__name__, 120)
            raise UnavailableError(f"no answer from {self.root} ({what})", broke=broke) from None

    def _json(self, content: bytes | str) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            what = "an empty answer" if not content.strip() else f"an answer that is not JSON ({one_line(error, 80)})"
            raise EngineError(f"{self.root} gives {self.clean(what)}") from None

    def _event(self, line: bytes) -> Any:
        """One line of a stream of events: its JSON object, or None where it has none."""
        kind, _, data = line.partition(b":")
        data = data.strip()
        if kind not in _FIELDS:
            shown = one_line(self.clean(line[:500].decode(errors="replace")), 80)
            raise EngineError(f"{self.root} gives a line that is no event ({shown})")
        if kind not in (b"data", b"error") or data == b"[DONE]":
            return None
        body = self._json(data.decode(errors="replace"))  # texts, which may be cut anywhere, are not used
        if not isinstance(body, dict):
            raise EngineError(f"{self.root} gives an event that is no JSON object")
        if kind == b"error" or body.get("error"):
            error = body.get("error") or body
            code = error.get("code") if isinstance(error, dict) else None
            raise self._worded(code if isinstance(code, int) and 400 <= code < 600 else 500, body)
        return body

    def _refusal(self, response: httpx.Response, content: bytes) -> EngineError:
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = content.decode(errors="replace")
        if response.has_redirect_location:
            location = one_line(self.clean(response.headers["Location"]), 200)
            return RefusedError(
                f"{self.root} sends its callers on to {location}: give the address where the server itself is",
                response.status_code,
                "",
            )
        return self._worded(response.status_code, body, _seconds(response.headers.get("Retry-After")))

    def _worded(self, status: int, body: Any, retry_after: float = 0.0) -> EngineError:
        while isinstance(body, dict):  # {"error": {"message": ...}}, {"message": ...}, {"detail": ...}
            body = next((body[key] for key in ("error", "message", "detail") if body.get(key)), "no reason given")
        reason = self.clean(body if isinstance(body, str) else json.dumps(body)).strip()
        reason = one_line(reason, 300) if reason else "no reason given"
        if status in (401, 403):
            if self._key is not None:
                text = f"{self.root} refuses the key in {KEY} or {OPENAI_KEY} ({reason})"
            else:
                text = f"{self.root} asks for a key: set {KEY} ({reason}); {OPENAI_KEY} goes to https addresses only"
            return RefusedError(text, status, reason)
        if status in _PASSING or status >= 500:
            text = f"{self.root} fails with HTTP {status}: {reason}"
            return UnavailableError(text, status=status, retry_after=retry_after)
        return RefusedError(f"{self.root} refuses with HTTP {status}: {reason}", status, reason)

    def several(self, names: Sequence[str]) -> str:
        """The models that a server names."""
        shown = ", ".join(one_line(self.clean(name), 100) for name in names[:5])
        return shown + (", ..." if len(names) > 5 else "") if names else "no model"

    def clean(self, text: str) -> str:
        """What a server said, fit to be shown (``without_key``)."""
        return without_key(text, self._key)


async def lines(parts: AsyncIterator[bytes], root: str) -> AsyncGenerator[bytes, None]:
    r"""The lines of a stream, which end at ``\n`` or ``\r\n`` and nowhere else: not at U+2028, say, inside a text.

    What follows the last end is no line: the stream was cut there. Raises EngineError for a line that is too long.
    """
    begun: list[bytes] = []
    size, mark = 0, codecs.BOM_UTF8  # which a stream may begin with
    async with aclosing(cast(AsyncGenerator[bytes, None], parts)):
        async for part in parts:
            for i, line in enumerate(found := part.split(b"\n"), 1):
                size += len(line)
                if size > LARGEST_ANSWER:
                    raise EngineError(f"{root} gives an event of more than {LARGEST_ANSWER >> 20} MiB")
                begun.append(line)
                if i < len(found):
                    yield b"".join(begun).removeprefix(mark).removesuffix(b"\r")
                    begun, size, mark = [], 0, b""


def _seconds(retry_after: str | None) -> float:
    """How long a server asks to wait: it gives seconds, or a time. 0 where it gives neither."""
    if retry_after is None:
        return 0.0
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0
