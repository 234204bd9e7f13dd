"""Requests that a chain may make next, decoded before that is known; whoever makes one takes what came.

What a request draws depends on nothing but the request (engines/protocol.py), so a chain is the same with guesses and
without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from powercut.engines.protocol import Chain, KeepGoing, Request
from powercut.trace import Trace

Key = tuple[object, ...]


def key_of(request: Request) -> Key:
    """What two requests of one chain have in common if they draw the same tokens."""
    first = None if request.first is None else request.first.tokens.tobytes()
    return request.context.tobytes(), request.max_new_tokens, request.temperature, request.seed, first


class Guess:
    """One such request, of a chain. Nobody judges what it draws before it is taken; once ``void`` it ends.

    ``decode`` starts it, with the part that is shown each new piece.
    """

    def __init__(self, request: Request, chain: Chain, decode: Callable[[KeepGoing], asyncio.Task[Trace]]) -> None:
        self.key = key_of(request)
        self.void = False
        self._chain = chain
        self._pieces: list[Trace] = []
        self._keep_going: KeepGoing | None = None
        self._over: asyncio.Future[None] | None = None
        self._outcome = decode(self._show)
        self._outcome.add_done_callback(lambda _: self._wake())

    @property
    def ended(self) -> bool:
        """Whether the engine is done with it."""
        return self._outcome.done()

    async def take(self, keep_going: KeepGoing) -> Trace:
        """Its tokens, as if it were made now: up to where ``keep_going`` says no; cancelled if it is released first.

        The caller's turn to ask the engine (``Chain``) is suspended meanwhile.
        """
        for i, piece in enumerate(self._pieces, 1):
            if not keep_going(piece):
                self.void = True
                return Trace.join(self._pieces[:i])
        if not self.ended:
            over = asyncio.get_running_loop().create_future()
            self._keep_going, self._over = keep_going, over
            self._chain.expect(-1)
            await over
        return self._outcome.result()

    def release(self) -> None:
        """Nobody has taken it any more: whoever waits for it is cancelled."""
        over, self._keep_going, self._over = self._over, None, None
        if over is not None and not over.done():
            self._chain.expect(1)
            over.cancel()

    def _show(self, piece: Trace) -> bool:
        if not self.void:
            self._pieces.append(piece)
            if self._keep_going is not None and not self._keep_going(piece):
                self.void = True
        return not self.void

    def _wake(self) -> None:
        """The turn is the caller's again."""
        if self._over is not None and not self._over.done():
            self._chain.expect(1)
            self._over.set_result(None)
