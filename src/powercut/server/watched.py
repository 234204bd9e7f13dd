"""An engine as one completion uses it: its tokens are shown as they come, and it ends at a deadline or a budget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from powercut.engines.protocol import Engine, KeepGoing, Request
from powercut.trace import Trace


class CutShort(Exception):  # noqa: N818  # nothing is wrong
    """The completion ends where it stands; ``reason`` is "deadline" or "budget"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Watched:
    """Passes requests on to ``engine`` and counts what they decode, until one of two bounds is met.

    ``deadline`` is a time of the running event loop, in its seconds; ``budget`` counts decoded tokens: the request that
    decodes one more is the last. Either raises CutShort out of ``extend``. ``show``, if given, is called with each
    request and each new piece of it. ``rows`` asks for the laws at all positions.
    """

    def __init__(
        self,
        engine: Engine,
        show: Callable[[Request, Trace], None] | None = None,
        *,
        deadline: float | None = None,
        budget: int | None = None,
        rows: bool = False,
    ) -> None:
        self._engine, self._show = engine, show
        self._deadline, self._budget, self._rows = deadline, budget, rows
        self.decoded = self.prefilled = 0
        self.drawn: list[tuple[Request, Trace]] = []
        """What was decoded, with its rows, where these were asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        """As the engine's. Raises CutShort."""
        if self._rows:
            request = replace(request, rows=True)
        unpaid = request.known  # they are shown too
        seen = 0

        def watch(piece: Trace) -> bool:
            nonlocal seen, unpaid
            seen += len(piece)
            self.decoded += max(0, len(piece) - unpaid)
            unpaid = max(0, unpaid - len(piece))
            if self._show is not None:
                self._show(request, piece)
            return not self._spent and (keep_going is None or keep_going(piece))

        try:
            async with asyncio.timeout_at(self._deadline) as bound:
                plain = self._show is None and self._budget is None  # each piece costs something
                trace = await self._engine.extend(request, keep_going if plain else watch)
        except TimeoutError:
            if bound.expired():
                raise CutShort("deadline") from None
            raise
        self.decoded += max(0, len(trace) - seen - unpaid)
        self.prefilled += trace.prefilled
        if self._rows:
            self.drawn.append((request, trace))
        if self._spent:
            raise CutShort("budget")
        return trace

    @property
    def _spent(self) -> bool:
        return self._budget is not None and self.decoded > self._budget
