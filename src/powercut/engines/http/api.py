"""Talking to a server: what every call shares, whether it waits or not. Failures become one line without the key."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from powercut.errors import EngineError, one_line

KEYS = ("POWERCUT_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the key; the first that is set counts."""

_PASSING = {408, 425, 429}


class RefusedError(EngineError):
    """The server understood and said no: asking again does not help. ``reason`` is its message."""

    def __init__(self, text: str, status: int, reason: str) -> None:
        super().__init__(text)
        self.status, self.reason = status, reason


class UnavailableError(EngineError):
    """The server is away or failed; asking again may help."""


class Api:
    """A server at ``root`` (no path), the key for it, and timeouts in seconds: to connect, and between two tokens."""

    def __init__(self, root: str, *, connect: float = 10.0, read: float = 300.0) -> None:
        self.root = root
        self.timeout = httpx.Timeout(read, connect=connect, pool=None)
        self._key = next((os.environ[name] for name in KEYS if os.environ.get(name)), None)

    def __repr__(self) -> str:
        return f"Api({self.root!r})"

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {} if self._key is None else {"Authorization": f"Bearer {self._key}"}

    def get(self, path: str) -> Any:
        """The JSON at ``path``. Raises RefusedError or UnavailableError."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        """The JSON that answers ``body``. Raises RefusedError or UnavailableError."""
        return self._ask("POST", path, body)

    def stream(self, path: str, body: Any) -> list[Any]:
        """All events that answer ``body``. Raises RefusedError or UnavailableError."""
        with self.failures(), httpx.Client(timeout=self.timeout, headers=self.headers) as client:
            response = client.post(self.root + path, json=body)
            self.check(response.status_code, response.content)
            return [event for line in response.iter_lines() if (event := self.event(line))]

    def _ask(self, method: str, path: str, body: Any) -> Any:
        with self.failures(), httpx.Client(timeout=self.timeout, headers=self.headers) as client:
            response = client.request(method, self.root + path, json=body)
            self.check(response.status_code, response.content)
            return response.json()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Word the failures of a connection: UnavailableError."""
        try:
            yield
        except httpx.InvalidURL as error:
            raise EngineError(f"{self.root} is no address of a server ({one_line(error)})") from None
        except httpx.TransportError as error:
            what = self._clean(one_line(error, 120))
            raise UnavailableError(f"no answer from {self.root} ({what})") from None
        except ValueError as error:
            raise UnavailableError(f"{self.root} gives an answer that is not JSON ({one_line(error, 80)})") from None

    def check(self, status: int, content: bytes) -> None:
        """Raise RefusedError or UnavailableError for an answer that is an error."""
        if status != 200:
            try:
                body = json.loads(content)
            except ValueError:
                body = content.decode(errors="replace")
            raise self._worded(status, body)

    def event(self, line: str) -> Any:
        """One line of a stream of events: its JSON, or None where it has none. Raises as ``check`` does."""
        kind, colon, data = line.partition(":")
        data = data.strip()
        if not colon or kind not in ("data", "error") or data == "[DONE]":
            return None
        with self.failures():
            body = json.loads(data)
        if kind == "error" or body.get("error"):
            error = body.get("error") or body
            code = error.get("code") if isinstance(error, dict) else None
            raise self._worded(code if isinstance(code, int) else 500, body)
        return body

    def _worded(self, status: int, body: Any) -> EngineError:
        while isinstance(body, dict):  # {"error": {"message": ...}}, {"message": ...}, {"detail": ...}
            body = next((body[key] for key in ("error", "message", "detail") if body.get(key)), "no reason given")
        reason = self._clean(one_line(Exception(body if isinstance(body, str) else json.dumps(body)), 300))
        if status in (401, 403):
            remedy = f"the key in {' or '.join(KEYS)}" if self._key else f"a key: set {KEYS[0]}"
            what = "refuses" if self._key else "wants"
            return RefusedError(f"{self.root} {what} {remedy} ({reason})", status, reason)
        if status in _PASSING or status >= 500:
            return UnavailableError(f"{self.root} fails with HTTP {status}: {reason}")
        return RefusedError(f"{self.root} refuses with HTTP {status}: {reason}", status, reason)

    def _clean(self, text: str) -> str:
        return text if self._key is None else text.replace(self._key, "***")
