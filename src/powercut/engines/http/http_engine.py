"""The engine for a model behind HTTP: vLLM, SGLang or llama.cpp's server. This is how one outgrows one machine.

The servers draw the tokens; what they tell of the most likely ones at each position gives the exact laws
(``laws.py``). Closing a stream frees the server's work at once, which is all that early rejection needs.

A stream that breaks is taken up where it broke, on the same server or another: the next request's context is what
arrived so far, and its noise comes from a seed of its own. That is exact in law whatever the server is: given the
tokens that arrived, the rest is drawn from its conditional law by fresh noise. Starting again from the same seed would
be right only on a server that repeats itself to the last bit, which none does across batches and restarts; and the old
seed after a longer context would repeat noise that the tokens already depend on. The price: a completion during which
a server went away is not the one that its seed gives otherwise.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from powercut.engines.background import BackgroundLoop
from powercut.engines.http.addresses import server_roots
from powercut.engines.http.api import Api, UnavailableError
from powercut.engines.http.handshake import open_server
from powercut.engines.http.pool import Patience, Pool, Server
from powercut.engines.http.reading import Reading
from powercut.engines.http.server_text import find_text
from powercut.engines.protocol import KeepGoing, Request, Usage, check_request
from powercut.engines.sequence import Sequence
from powercut.errors import EngineError, SettingError
from powercut.text import Text, TokenizerText, special_tokens
from powercut.trace import Trace

T = TypeVar("T")

CONCURRENCY = 64
"""Requests at once to a server that does not tell how many it serves."""


class HttpEngine:
    """Draws from ``servers`` that serve one model; made by ``load``.

    ``retry_for`` and ``backoff`` are in seconds. ``ends`` are the ids that ended a completion, known or seen.
    """

    def __init__(
        self,
        servers: list[Server],
        *,
        stop_tokens: Collection[int] = (),
        concurrency: int | None = None,
        retry_for: float = 600.0,
        backoff: float = 0.5,
    ) -> None:
        self.name = servers[0].model
        self.text: Text | None = None
        self.concurrency = sum(concurrency or server.places or CONCURRENCY for server in servers)
        self.usage = Usage()
        self.stop_tokens = frozenset(stop_tokens)
        self.ends = set(stop_tokens)
        self._retry_for, self._backoff = retry_for, backoff
        self._pool = Pool(servers)
        self._closed = False
        self._running: dict[asyncio.Timeout, asyncio.AbstractEventLoop] = {}

    @classmethod
    def load(
        cls,
        url: str | None,
        *,
        model: str | None = None,
        tokenizer: str | None = None,
        stop_tokens: Iterable[int] = (),
        concurrency: int | None = None,
        top_k: int = 50,
        connect_timeout: float = 10.0,
        read_timeout: float = 300.0,
        retry_for: float = 600.0,
        backoff: float = 0.5,
    ) -> HttpEngine:
        """Check the servers at ``url``, base URLs as in ``http://HOST:PORT/v1`` with commas between them.

        ``model`` is its name there (None: the only one). ``tokenizer`` is a folder or hub id (None: the server's
        folder if this machine has it too, else the server's endpoints; stop strings need one here). ``stop_tokens``
        end a completion besides those that the server knows. ``concurrency``: requests at once to each server (None:
        as many as it says that it serves at once, else 64). ``top_k`` log-probabilities a token are tried out; a
        request may ask for more, and fails if they do not come. The key is read from POWERCUT_API_KEY, else
        OPENAI_API_KEY, which is sent in the clear to this machine only.

        Times are in seconds. A try that brings no token for ``read_timeout``, the wait in the server's queue included,
        has failed. Failed tries are followed by others, the first after ``backoff``, the next ones less and less often,
        until ``retry_for`` is over since the request's last token (see ``Patience``).

        Raises EngineError or SettingError, in one line, for a server that is away, serves another model, or whose
        log-probabilities are not raw or fewer than ``top_k``.
        """
        for name, count in (("concurrency", concurrency), ("top_k", top_k)):
            if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
                raise SettingError(f"{name} must be a whole number of at least 1 (got {count!r})")
        seconds = {"connect_timeout": connect_timeout, "read_timeout": read_timeout}
        for name, value in {**seconds, "retry_for": retry_for, "backoff": backoff}.items():
            number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
            if not number or (name in seconds and not value):
                raise SettingError(f"{name} must be a number of seconds (got {value!r})")
        apis = [Api(root, connect=connect_timeout, read=read_timeout) for root in server_roots(url)]

        async def open_all() -> HttpEngine:
            servers = [await open_server(apis[0], model, top_k, retry_for)]
            for api in apis[1:]:
                servers.append(await open_server(api, servers[0].model, top_k, retry_for))
            engine = cls(
                servers,
                stop_tokens=tuple(stop_tokens),
                concurrency=concurrency,
                retry_for=retry_for,
                backoff=backoff,
            )
            text = await find_text(servers, tokenizer, engine.ends, engine.patience)
            if text is not None:
                engine.text = text
                engine.stop_tokens |= text.turn_end
                if isinstance(text, TokenizerText):
                    engine.stop_tokens |= text.end
                engine.ends |= engine.stop_tokens
            return engine

        return _run_apart(open_all())

    @property
    def idle(self) -> int:
        """How many more requests could run within ``concurrency``."""
        return max(0, self.concurrency - sum(server.running for server in self._pool.servers))

    def patience(self) -> Patience:
        """How long one call waits for servers that fail."""
        return Patience(self._retry_for, self._backoff)

    def describe(self) -> str:
        """One line: the model, the servers, and how they are spoken to."""
        where = ", ".join(server.api.root for server in self._pool.servers)
        kinds = ", ".join(sorted({server.dialect.name for server in self._pool.servers}))
        return f"{self.name} at {where} ({kinds}), up to {self.concurrency} requests at once"

    def check(self, request: Request) -> None:
        """Raise SettingError if ``request`` cannot fit or asks for what the servers are known not to give."""
        servers = self._pool.servers
        lows, highs = zip(*(server.dialect.temperatures for server in servers), strict=True)
        check_request(
            request,
            reads_text=isinstance(self.text, TokenizerText),
            special=special_tokens(self.text),
            context_length=min((s.context_length for s in servers if s.context_length is not None), default=None),
            whole_vocabulary=False,
            temperatures=(max(lows), min(highs)),
            longer="give the server a longer one",
            textless="stop strings need the model's tokenizer on this machine; give its folder or hub id as tokenizer, "
            "or give stop token ids",
        )
        if request.min_new_tokens and not self.stop_tokens | request.stop_ids:
            raise SettingError(
                "min_new_tokens: it is not known which tokens end a completion on this server; give its model's "
                "tokenizer, or their ids as stop"
            )

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        """Draw tokens until a stop, ``max_new_tokens``, or ``keep_going`` returning False (see ``Engine.extend``).

        Broken streams and servers that fail are tried again as ``Patience`` says; then it raises EngineError.
        """
        self.check(request)
        if self._closed:
            raise EngineError("this http engine is closed: load it again")
        decode_now = self.text.decode_now if isinstance(self.text, TokenizerText) else None
        if request.rows and not self.stop_tokens:  # what is drawn from them here could be a stop that nobody knows
            request = replace(request, rows=False)
        sequence = Sequence(request, keep_going, self.stop_tokens, decode_now)
        try:
            async with self._until_closed():
                await self._finish(sequence)
            return sequence.trace()
        finally:
            sequence.close()

    async def aclose(self) -> None:
        """Close all connections. Requests that still run fail with EngineError."""
        self._closed = True
        for running, loop in list(self._running.items()):
            with suppress(RuntimeError):  # that loop is closed, and the request with it
                loop.call_soon_threadsafe(_expire, running)
        for server in self._pool.servers:
            await server.api.aclose()

    async def _finish(self, sequence: Sequence) -> None:
        """Have servers draw what the sequence lacks, until it is done."""
        request, patience = sequence.request, self.patience()
        reading = Reading(sequence, self.usage, sorted(self.stop_tokens | request.stop_ids), self.ends)
        server = self._pool.pick(request.chain)
        broken: set[Server] = set()  # under this request: it may be why
        while not sequence.done:
            before = sequence.count
            server.running += 1
            try:
                await reading.finish_at(server, patience.limit(server.api.read_timeout))
                continue
            except UnavailableError as error:
                failure = error
            finally:
                server.running -= 1
            if sequence.done:
                return
            if sequence.count > before:
                patience.renew(reading.heard)
                broken.clear()
            if failure.broke:
                broken.add(server)
            alone = len(broken) > 1
            if not patience.left:
                why = "; it broke two servers off, and no other gets it" if alone else ""
                waited = f"given up after {patience.waited:.0f} seconds (retry_for)"
                raise EngineError(f"{server.reason(failure)}{why}; {waited}") from failure
            server.note_failure(failure, reading.heard, self._retry_for)
            server = self._pool.pick(request.chain, but=server, among=broken if alone else ())
            pause = patience.pause(failure.retry_after)
            others_left = not server.away and patience.attempts < len(self._pool.servers)
            await asyncio.sleep(0 if others_left else pause)

    @asynccontextmanager
    async def _until_closed(self) -> AsyncIterator[None]:
        """Ends what runs in it when the engine is closed."""
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._running[limit] = asyncio.get_running_loop()
                yield
        except TimeoutError:
            if limit.expired():
                raise EngineError("this http engine was closed while it decoded") from None
            raise
        finally:
            self._running.pop(limit, None)


def _expire(limit: asyncio.Timeout) -> None:
    limit.reschedule(asyncio.get_running_loop().time())


def _run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine for a caller that may be in an event loop of its own."""
    background = BackgroundLoop("powercut-http")
    try:
        return background.run(work)
    finally:
        background.close()
