"""A page of chains served to this machine alone, with a model behind it that draws branches from any token."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from powercut.chains import Chain, Chains, Drawn
from powercut.engines.protocol import Engine
from powercut.errors import PowercutError, SettingError
from powercut.samplers.draw import Draw
from powercut.samplers.settings import LARGEST_SEED, check_number
from powercut.step_lines import likely_tokens, piece_of, special_names
from powercut.strict_json import from_json
from powercut.text import LocalText
from powercut.trace import IntArray, Rows, Trace
from powercut.view.pack import Pool, pack
from powercut.view.page import view_page
from powercut.view.payload import Find, find_for, sampler_of

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Branch:
    """What a page asks for: a continuation of ``tokens`` of the completion at ``place`` (prompt and sample index)."""

    place: tuple[int, ...]
    tokens: IntArray
    seed: int = 0
    temperature: float | None = None


class Branching:
    """Draws branches of the chains by ``engine``; after ``close`` no more, after ``end`` none that is being drawn."""

    def __init__(self, chains: Chains, engine: Engine, find: Find | None) -> None:
        self._chains, self._engine, self._find = chains, engine, find
        self._closed = False
        self._tasks: set[asyncio.Task[str]] = set()

    def close(self) -> None:
        """Begin no more."""
        self._closed = True

    def end(self) -> None:
        """Give up what is being drawn."""
        self.close()
        for task in self._tasks:
            task.cancel()

    async def draw(self, branch: Branch, gone: Callable[[], Awaitable[bool]]) -> str:
        """A branch as a payload; it is given up once the page is ``gone``. Raises what ``view`` cannot do."""
        if self._closed:
            raise SettingError("this page's server is about to end")
        task = asyncio.create_task(self._draw(branch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        while not task.done():
            await asyncio.wait({task}, timeout=0.5)
            if not task.done() and await gone():
                task.cancel()
        return await task

    async def _draw(self, branch: Branch) -> str:
        chain = self._chains.by_place.get((branch.place[0], branch.place[1]) if len(branch.place) == 2 else (-1, -1))
        if chain is None or chain.prompt is None:
            raise SettingError("the file does not have this completion's prompt: sample it again with --save-trace")
        sampler = sampler_of(chain)
        check_number("seed", branch.seed, 0, LARGEST_SEED, whole=True)
        decoding, horizon = replace(sampler.decoding, rows=True, require=None), sampler.max_new_tokens
        if branch.temperature is not None:
            check_number("temperature", branch.temperature, 1e-3, 100)
            decoding = replace(decoding, legs=((horizon, branch.temperature),))
        if len(branch.tokens) >= horizon:
            raise SettingError(f"there is no room behind max_new_tokens={horizon}: choose an earlier token")
        blank = np.zeros(len(branch.tokens))
        laws = Rows(blank[:, None].astype(np.int32), blank[:, None])  # of no meaning, but the tail's are lost without
        kept = Trace(branch.tokens, blank, blank, blank, rows=laws)
        async with Draw(self._engine, chain.prompt, decoding) as draw:
            seed = int(np.random.SeedSequence([branch.seed, len(kept)]).generate_state(1, np.uint64)[0] >> 1)
            tail = await draw.extend(kept, horizon, seed)
            text = None if self._engine.text is None else await draw.text_of(kept.splice(len(kept), tail))
        return _payload(self._engine, tail, None if text is None else find_for(sampler, self._find)(text))


def _payload(engine: Engine, tail: Trace, answer: Any) -> str:
    text = engine.text if isinstance(engine.text, LocalText) else None
    pool, special = Pool(), special_names(text)
    pool.add(Drawn(tail, None if tail.rows is None else likely_tokens(tail.rows)))

    def piece(token: int) -> Any:
        found = special.get(token) or (None if text is None else piece_of(text, token))
        return list(found) if isinstance(found, bytes) else found

    head = {
        "vocabulary": [piece(token) for token in pool.vocabulary],
        "tokenIds": pool.vocabulary,
        "special": [i for i, token in enumerate(pool.vocabulary) if token in special],
        "tellsLikely": pool.tells_likely,
        "logp": float(tail.logp.sum()),
        "count": len(tail),
        "finished": tail.finished,
        "answer": None if answer is None else str(answer).strip(),
    }
    return pack(head, pool.arrays())


@dataclass(frozen=True)
class Door:
    """The way in: a ``token`` in the address, and the only names by which this machine may be called."""

    token: str
    hosts: frozenset[str]

    @classmethod
    def at(cls, port: int) -> Door:
        """A new one, to which nobody has the key yet."""
        return cls(secrets.token_urlsafe(16), frozenset(f"{host}:{port}" for host in ("127.0.0.1", "localhost")))

    def opens(self, request: Request) -> bool:
        """Whether a request has the token, and calls this machine by its own name: no other site's page does."""
        given = str(request.path_params["token"])
        return hmac.compare_digest(given.encode(), self.token.encode()) and request.headers.get("host") in self.hosts


def create_view_app(chains: Chains, engine: Engine, title: str, find: Find | None, door: Door) -> Starlette:
    """The application: the page at /TOKEN/, and its branches. ``app.state.answering`` is what draws them."""
    page, branching = view_page(chains, title, find, branches=True), Branching(chains, engine, find)

    async def show(request: Request) -> Response:
        if not door.opens(request):
            return Response("there is nothing here", 404, HEADERS)
        return HTMLResponse(page, headers=HEADERS)

    async def branch(request: Request) -> Response:
        if not door.opens(request) or request.headers.get("content-type") != "application/json":
            return _answer({"error": "there is nothing here"}, 404)
        try:
            asked = from_json(Branch, await request.json())
            return _answer({"data": await branching.draw(asked, request.is_disconnected)})
        except PowercutError as error:
            return _answer({"error": str(error)}, 400 if isinstance(error, SettingError) else 503)
        except (ValueError, RecursionError) as error:
            return _answer({"error": f"this is no request for a branch: {error}"}, 400)
        except asyncio.CancelledError:
            return _answer({"error": "it was given up"}, 503)

    app = Starlette(routes=[Route("/{token}/", show), Route("/{token}/branch", branch, methods=["POST"])])
    app.state.answering = branching
    return app


def _answer(value: Mapping[str, Any], status: int = 200) -> Response:
    return JSONResponse(value, status, HEADERS)


def chain_tokens(chain: Chain) -> set[int]:
    """The ids of all tokens that a chain's lines have."""
    drawn = [proposal.drawn for proposal in chain.proposals] + [each for block in chain.blocks for each in block.drawn]
    found = set() if chain.prompt is None else set(chain.prompt.tolist())
    for each in drawn:
        found.update(each.trace.tokens.tolist())
        for ids, _ in each.likely or ():
            found.update(ids)
    return found


def add_pieces(chains: Chains, engine: Engine) -> None:
    """Give ``chains`` the texts of those of their tokens that their file does not have, by the engine's text."""
    if not isinstance(engine.text, LocalText):
        return
    special = special_names(engine.text)
    for token in set().union(*map(chain_tokens, chains.by_place.values())) - chains.pieces.keys():
        chains.pieces[token] = special.get(token) or piece_of(engine.text, token)
        if token in special:
            chains.special.add(token)
