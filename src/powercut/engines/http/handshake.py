"""The checks of a server before it is used: each failure is one line that says what to change, and where."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from urllib.parse import quote

import numpy as np

from powercut.engines.http.addresses import LONGEST
from powercut.engines.http.api import Api, RefusedError, UnavailableError
from powercut.engines.http.dialects import BY_OWNER, Chunk, Dialect, Json, NoLogProbsError, in_order
from powercut.engines.http.pool import Patience, Server, log, model_cards, model_ids
from powercut.engines.laws import check_rows
from powercut.engines.protocol import Request
from powercut.errors import EngineError, PowercutError, SettingError, one_line

PROMPT = (1, 2, 3)
"""The ids of any vocabulary."""

_RAW_WITHIN = 0.3  # nats; far above the noise of bfloat16, far below what another temperature does

_SHOWN = "!"  # a text whose last token no server hides


class UnfitError(Exception):
    """The server speaks the dialect, and cannot be used as it is set up. ``why`` is what the user is told."""

    def __init__(self, why: PowercutError) -> None:
        super().__init__(str(why))
        self.why = why


async def open_server(api: Api, model: str | None, top_k: int, wait: float) -> Server:
    """Look at the server behind ``api``: its model, how it is spoken to, and whether its log-probabilities will do.

    One that still loads its model, or asks to come back later, is waited for, ``wait`` seconds. Raises EngineError or
    SettingError for what will not do.
    """
    patience, told = Patience(wait, 0.25), False
    while True:
        try:
            return await _open(api, model, top_k)
        except UnavailableError as error:
            if not error.later or not patience.left:
                raise EngineError(f"{error}: start the server, or check the address") from error
            if not told:
                log.warning("%s; waiting for it (for %g seconds)", error, wait)
                told = True
            await asyncio.sleep(patience.pause(error.retry_after))


async def _open(api: Api, model: str | None, top_k: int) -> Server:
    cards = await _models(api)
    names = model_ids(cards)
    bases = [card for card in cards if not card.get("parent")]  # the others are adapters of them
    if model is not None and model not in names:
        raise SettingError(f"model: {api.root} serves {api.several(names)}, not {model}")
    card = (bases or cards)[0] if model is None else cards[names.index(model)]
    owner = str(card.get("owned_by")).lower()
    say_which = None
    if model is None and len(bases) > 1:
        say_which = SettingError(f"model: {api.root} serves {api.several(names)}: say which")
        if owner in BY_OWNER:
            raise say_which
    failures: list[tuple[Dialect, PowercutError]] = []
    unfit: list[PowercutError] = []
    for dialect in in_order(owner):
        try:
            server = await _server(api, card, dialect)
            await check_log_probs(server, top_k)
        except UnfitError as error:
            unfit.append(error.why)
        except PowercutError as error:
            hopeless = isinstance(error, RefusedError) and error.status in (401, 403)
            if hopeless or (isinstance(error, UnavailableError) and (error.later or error.slow)):
                raise
            failures.append((dialect, error))
        else:
            if say_which is not None:
                raise say_which
            return server
    if unfit:
        raise unfit[0]
    telling = [error for dialect, error in failures if dialect in BY_OWNER.get(owner, ()) and not _no_path(error)]
    if telling:
        ready = ": the server must be up and ready" if isinstance(telling[0], UnavailableError) else ""
        raise EngineError(f"{telling[0]}{ready}") from telling[0]
    dialect, why = next((failed for failed in failures if not _no_path(failed[1])), failures[0])
    raise _none_of_them(api, f"no way to send it token ids was found ({dialect.name}: {one_line(why, 160)})")


def _none_of_them(api: Api, why: str) -> EngineError:
    return EngineError(f"{api.root} is none of vLLM, SGLang and llama-server: {why}")


def _no_path(error: PowercutError) -> bool:
    return isinstance(error, RefusedError) and error.no_path


async def _models(api: Api) -> list[Json]:
    """The cards of the models served; at least one."""
    try:
        cards = model_cards(await api.get("/v1/models"))
    except UnavailableError:
        raise
    except EngineError as error:
        if isinstance(error, RefusedError) and (error.status in (401, 403) or 300 <= error.status < 400):
            raise
        raise _none_of_them(api, f"no list of models at its /v1/models ({one_line(error, 160)})") from error
    if not cards:
        raise _none_of_them(api, "its /v1/models lists none")
    if not all(name.isprintable() and len(name) <= LONGEST for name in model_ids(cards)):
        raise _none_of_them(api, "its /v1/models lists what is no name")
    return cards


async def _server(api: Api, card: Json, dialect: Dialect) -> Server:
    """What the server tells of itself in this dialect."""
    model = str(card["id"])
    meta = card.get("meta")
    server = Server(api, model, str(card.get("root") or model), dialect)
    lengths = [card.get("max_model_len"), meta.get("n_ctx") if isinstance(meta, dict) else None]
    if dialect.hiding is not None:
        shown = token_ids(await api.post("/tokenize", dialect.to_tokenize(model, _SHOWN, True)))
        server.visible = shown[-1] if shown else None
    if dialect.about is not None:
        try:
            about = await api.get(f"{dialect.about}?model={quote(model, safe='')}")
            places, length = dialect.read_about(about)
            server.places = places if places is not None and places > 0 else None
            lengths.append(length)
        except RefusedError as error:
            if not error.no_path:
                raise
        except (TypeError, AttributeError) as error:
            what = one_line(api.clean(str(error)), 120)
            raise EngineError(f"{api.root}{dialect.about} is not {dialect.name}'s ({what})") from None
    known = [length for length in lengths if isinstance(length, int) and length > 0]
    server.context_length = min(known, default=None)
    return server


def token_ids(answer: object) -> list[int]:
    """The ids in an answer of ``/tokenize``. Raises EngineError if there are none."""
    tokens = answer.get("tokens") if isinstance(answer, dict) else None
    if not isinstance(tokens, list) or not all(type(token) is int and 0 <= token < 2**63 for token in tokens):
        raise EngineError("the server's /tokenize gives no list of token ids")
    return tokens


async def check_log_probs(server: Server, top_k: int) -> None:
    """Ask for one token at two temperatures: there are ``top_k`` log-probabilities, and they do not depend on it.

    Raises UnfitError, whose error names the server's option, where not; EngineError if it is no such server.
    """
    hot, cold = [await _ask(server, top_k, temperature) for temperature in (1.0, 0.25)]
    where, dialect = server.api.root, server.dialect
    for chunk in (hot, cold):
        if not chunk.ids.size:
            raise UnfitError(EngineError(f"{where} gives no log-probabilities with its tokens: {dialect.raw}"))
        try:
            check_rows(chunk.ids[:1], chunk.logprobs[:1], 1)
        except EngineError as error:
            raise UnfitError(EngineError(f"{where}: {error}: {dialect.raw}")) from error
    first, second = _by_id(hot), _by_id(cold)
    common = [(first[i], second[i]) for i in first.keys() & second.keys()]
    differences = np.ptp(np.subtract(*np.array(common).T)) if common else np.inf
    if differences > _RAW_WITHIN:
        raise UnfitError(
            EngineError(
                f"{where} changes its log-probabilities with the temperature; powercut needs raw ones: {dialect.raw}"
            )
        )
    if len(first) < top_k:
        raise UnfitError(server.lacks(top_k, f"gives only {len(first)} log-probabilities a token"))


async def _ask(server: Server, top_k: int, temperature: float) -> Chunk:
    """The first token for PROMPT, which has one: a server that may hide it is made to show another."""
    dialect, where = server.dialect, server.api.root
    payload = dialect.payload(server.model, Request(np.array(PROMPT), 1, temperature=temperature, top_k=top_k), ())
    if dialect.hiding is not None and server.visible is not None:
        payload = dialect.hiding.force(payload, server.visible)
    try:
        async with (
            asyncio.timeout(server.api.read_timeout),
            aclosing(server.api.events(dialect.path, payload)) as events,
        ):
            async for event in events:
                if len((chunk := server.read(event, 0)).tokens):
                    return chunk
    except TimeoutError:
        raise server.api.no_answer(server.api.read_timeout) from None
    except NoLogProbsError as error:
        raise UnfitError(EngineError(f"{error}: {dialect.raw}")) from error
    except RefusedError as error:
        if (why := server.refusal(error, top_k)) is not None:
            raise UnfitError(why) from error
        raise
    raise EngineError(f"{where} gives no tokens for a prompt of {len(PROMPT)} token ids")


def _by_id(chunk: Chunk) -> dict[int, float]:
    """The log-probabilities of the first token."""
    pairs = zip(chunk.ids[0].tolist(), chunk.logprobs[0].tolist(), strict=True)
    return {i: value for i, value in pairs if i >= 0 and value > -1e3}
