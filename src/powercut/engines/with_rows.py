"""An engine that tells the laws at all positions, to whoever asks it for tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from powercut.engines.protocol import Engine, KeepGoing, Request
from powercut.trace import Trace


class WithRows:
    """Asks ``engine`` for the laws (``Trace.rows``) with every request; the tokens drawn are the same."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        """As the engine's, with rows where it has them."""
        return await self._engine.extend(replace(request, rows=True), keep_going)
