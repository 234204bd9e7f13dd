"""The engine for a model behind HTTP: vLLM, SGLang or llama.cpp's server. This is how one outgrows one machine.

The servers draw the tokens; what they tell of the most likely ones at each position gives the exact laws
(``top_k.py``). Closing a stream frees the server's work at once, which is all that early rejection needs.

A stream that breaks is taken up where it broke, on the same server or another: the next request's context is what
arrived so far, and its noise comes from a seed of its own. That is exact in law whatever the server is: given the
tokens that arrived, the rest is drawn from its conditional law by fresh noise. Starting again from the same seed would
be right only on a server that repeats itself to the last bit, which none does across batches and restarts; and the old
seed after a longer context would repeat noise that the tokens already depend on. The price: a completion during which
a server went away is not the one that its seed gives otherwise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import aclosing
from typing import cast

import httpx

from powercut.engines.http.api import KEYS, Api, UnavailableError
from powercut.engines.http.decode import Decode
from powercut.engines.http.dialects import Chunk
from powercut.engines.http.handshake import Server, check_log_probs, open_server
from powercut.engines.http.pool import LONGEST_PAUSE, Pool, reason
from powercut.engines.http.server_text import find_text
from powercut.engines.protocol import KeepGoing, Request, Usage, check_request
from powercut.engines.stops import StopWatch
from powercut.errors import EngineError, SettingError
from powercut.text import Text
from powercut.trace import Trace


class HttpEngine:
    """Draws from ``servers`` that serve one model; made by ``load``.

    ``local_text`` says that ``text`` costs no call to a server. At most ``top_k`` log-probabilities were asked for in
    the checks; more are checked when first wanted. ``retry_for`` and ``backoff`` are in seconds.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        text: Text | None = None,
        *,
        local_text: bool = False,
        stop_tokens: Collection[int] = (),
        concurrency: int = 64,
        top_k: int = 50,
        retry_for: float = 120.0,
        backoff: float = 0.5,
    ) -> None:
        self.name = servers[0].model
        self.text = text
        self.concurrency = concurrency * len(servers)
        self.usage = Usage()
        self.stop_tokens = frozenset(stop_tokens)
        self._seen_stops: set[int] = set(stop_tokens)
        self._local_text, self._top_k = local_text, top_k
        self._retry_for, self._backoff = retry_for, backoff
        self._pool = Pool(servers)

    @classmethod
    def load(
        cls,
        url: str,
        *,
        model: str | None = None,
        tokenizer: str | None = None,
        stop_tokens: Iterable[int] = (),
        concurrency: int = 64,
        top_k: int = 50,
        connect_timeout: float = 10.0,
        read_timeout: float = 300.0,
        retry_for: float = 120.0,
        backoff: float = 0.5,
    ) -> HttpEngine:
        """Check the servers at ``url``, base URLs as in ``http://HOST:PORT/v1`` with commas between them.

        ``model`` is its name there (None: the only one). ``tokenizer`` is a folder or hub id (None: the server's
        folder if this machine has it too, else the server's endpoints; stop strings need one here). ``stop_tokens``
        end a completion besides those that the server knows. ``concurrency``: requests at once to each server.
        ``connect_timeout`` and ``read_timeout`` (between two tokens, waiting in the server's queue included) are in
        seconds. A server that is away is tried for ``retry_for`` seconds, first after ``backoff``, then less often.
        The key is read from POWERCUT_API_KEY, else OPENAI_API_KEY.

        Raises EngineError or SettingError, in one line, for a server that is away, serves another model, or whose
        log-probabilities are not raw or fewer than ``top_k``.
        """
        if concurrency < 1:
            raise SettingError(f"concurrency must be at least 1 (got {concurrency})")
        servers = []
        for root in _roots(url):
            servers.append(open_server(Api(root, connect=connect_timeout, read=read_timeout), model, top_k))
            model = servers[0].model
        engine = cls(
            servers,
            stop_tokens=tuple(stop_tokens),
            concurrency=concurrency,
            top_k=top_k,
            retry_for=retry_for,
            backoff=backoff,
        )
        for server in reversed(servers):  # each is checked; the first one's stays
            engine.text, engine._local_text = find_text(
                server.api,
                server.model,
                server.root,
                tokenizer=tokenizer,
                llama=server.dialect.name == "llama.cpp",
                hidden=engine._seen_stops,
            )
        return engine

    @property
    def idle(self) -> int:
        """How many more requests could run within ``concurrency``."""
        return max(0, self.concurrency - sum(server.running for server in self._pool.servers))

    def describe(self) -> str:
        """One line: the model, the servers, and how they are spoken to."""
        where = ", ".join(server.api.root for server in self._pool.servers)
        kinds = ", ".join(sorted({server.dialect.name for server in self._pool.servers}))
        return f"{self.name} at {where} ({kinds}), up to {self.concurrency} requests at once"

    def check(self, request: Request) -> None:
        """Raise SettingError if ``request`` cannot fit or asks for what the servers do not give.

        A top_k above all before it is tried out on each server; EngineError if that fails otherwise.
        """
        servers = self._pool.servers
        check_request(
            request,
            text=self.text if self._local_text else None,
            context_length=min((s.context_length for s in servers if s.context_length is not None), default=None),
            whole_vocabulary=False,
            temperatures=servers[0].dialect.temperatures,
            longer="give the server a longer one",
            textless="stop strings need the model's tokenizer on this machine; give its folder or hub id as tokenizer, "
            "or give stop token ids",
        )
        if request.top_k is not None and request.top_k > self._top_k:
            for server in servers:
                check_log_probs(server, request.top_k)
            self._top_k = request.top_k

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        """Draw tokens until a stop, ``max_new_tokens``, or ``keep_going`` returning False (see ``Engine.extend``).

        Broken streams and servers that fail are tried again for as long as ``retry_for`` says, counted from the last
        token; then it raises EngineError.
        """
        self.check(request)
        work = Decode(request, keep_going, StopWatch(request, self.stop_tokens, self.text))
        server = self._pool.pick(request.session)
        since, attempt = time.monotonic(), 0
        while True:
            before = work.count
            server.running += 1
            try:
                if server.away:
                    await self._pool.check_back(server)
                await self._decode(server, work)
            except UnavailableError as error:
                if not work.done:
                    if work.count > before:
                        since, attempt = time.monotonic(), 0
                    if (waited := time.monotonic() - since) >= self._retry_for:
                        raise EngineError(
                            f"{reason(error, server)}; given up after {waited:.0f} seconds (retry_for)"
                        ) from error
                    self._pool.note_away(server, error, self._retry_for)
            finally:
                server.running -= 1
            if work.done:
                if work.stop_seen is not None:
                    self._seen_stops.add(work.stop_seen)
                return work.trace()
            server = self._pool.pick(request.session, but=server)
            if server.away:
                await asyncio.sleep(min(self._backoff * 2.0**attempt, LONGEST_PAUSE))
                attempt += 1

    async def _decode(self, server: Server, work: Decode) -> None:
        """Ask for what is missing, and take it in as it comes. Raises UnavailableError if the stream breaks."""
        request, apart = work.rest(), server.dialect.end_apart
        where = f"{server.api.root} ({server.dialect.name})"
        held: Chunk | None = None
        end: str | None = None
        received = prefilled = 0
        try:
            async with aclosing(self._chunks(server, request)) as chunks:
                async for chunk in chunks:
                    if not received:
                        prefilled = len(request.context)  # unless the server says better, or nothing at all
                    prefilled = prefilled if chunk.prefilled is None else chunk.prefilled
                    received += len(chunk.tokens)
                    self.usage.decoded += len(chunk.tokens)
                    end = chunk.end or end
                    if chunk.total is not None and chunk.total > received:
                        raise EngineError(
                            f"{where} hides some of the tokens that it draws (llama-server does so inside characters "
                            "of several bytes): use vLLM or SGLang for such text"
                        )
                    # Where only the next event tells whether a token was the last, each waits for it.
                    ready, held = (held, chunk) if apart else (chunk, None)
                    if ready is not None and len(ready.tokens) and not work.done:
                        work.take(ready, stop=chunk.end == "stop")
                    if work.done and end is None:  # else what follows are the server's counts
                        if held is not None and not work.finished:
                            work.take_unseen(held)
                        return
        finally:
            work.prefilled += prefilled
            self.usage.prefilled += prefilled
            self.usage.reused += len(request.context) - prefilled if received else 0
        if work.done:
            return
        if end == "length":
            raise EngineError(f"{where} ended {request.max_new_tokens - received} tokens early: is its context full?")
        if end == "stop":
            raise EngineError(f"{where} hides the token that ends a completion; it must return it like any other")
        raise UnavailableError(f"{where} broke off its answer" + (f" ({end})" if end else ""))

    async def _chunks(self, server: Server, request: Request) -> AsyncGenerator[Chunk, None]:
        """What the server streams. Closing this closes the stream, and the server drops the request."""
        api, dialect = server.api, server.dialect
        payload = dialect.payload(server.model, request, sorted(self.stop_tokens | request.stop_ids))
        received = 0
        with api.failures():
            async with self._pool.client().stream("POST", api.root + dialect.path, json=payload) as response:
                if response.status_code != 200:
                    api.check(response.status_code, await response.aread())
                async with aclosing(cast(AsyncGenerator[str, None], response.aiter_lines())) as lines:
                    async for line in lines:
                        if (event := api.event(line)) is None:
                            continue
                        try:
                            chunk = dialect.parse(event, received)
                        except (KeyError, TypeError, ValueError) as error:
                            raise EngineError(f"{api.root}: no answer of {dialect.name} ({error!r})") from error
                        received += len(chunk.tokens)
                        yield chunk


def _roots(urls: str) -> list[str]:
    """The servers' addresses without path. Raises SettingError for what is no base URL."""
    roots = []
    for url in filter(None, (part.strip() for part in urls.split(","))):
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            parsed = httpx.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise SettingError(f"{url} is no base URL: give http://HOST:PORT/v1, or several with commas between them")
        if parsed.userinfo or parsed.query:
            raise SettingError(f"put no key into the URL of {parsed.host}: set {KEYS[0]} in the environment")
        roots.append(str(parsed).rstrip("/").removesuffix("/v1"))
    if len(set(roots)) < len(roots) or not roots:
        raise SettingError("give each server once")
    return roots
