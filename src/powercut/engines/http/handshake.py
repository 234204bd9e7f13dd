"""The checks of a server before it is used: each failure is one line that says what to change, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from powercut.engines.http.api import Api, RefusedError, UnavailableError
from powercut.engines.http.dialects import BY_OWNER, OTHERS, Chunk, Dialect, Json
from powercut.engines.protocol import Request
from powercut.errors import EngineError, SettingError

PROMPT = (1, 2, 3)
"""The ids of any vocabulary."""

_RAW_WITHIN = 0.3  # nats; far above the noise of bfloat16, far below what another temperature does


@dataclass(slots=True, eq=False)
class Server:
    """A server that passed the checks. ``running`` counts the requests that it serves now.

    One that is ``away`` has to be looked at again before it is used, best not before ``away_until`` (monotonic clock).
    """

    api: Api
    model: str
    root: str
    dialect: Dialect
    context_length: int | None
    running: int = 0
    away: bool = False
    away_until: float = 0.0


def open_server(api: Api, model: str | None, top_k: int) -> Server:
    """Look at the server behind ``api``: its model, how it is spoken to, and whether its log-probabilities will do.

    Raises EngineError or SettingError for what will not.
    """
    card = _model_card(api, model)
    owner = str(card.get("owned_by")).lower()
    for dialect in BY_OWNER.get(owner, OTHERS):
        try:
            server = Server(api, card["id"], str(card.get("root") or card["id"]), dialect, _length(card))
            check_log_probs(server, top_k)
        except RefusedError as error:
            if error.status not in (404, 405, 501):  # no such path
                raise
        else:
            return server
    raise EngineError(f"{api.root} is none of vLLM, SGLang and llama-server: no way to send it token ids was found")


def model_ids(listed: Json) -> list[str]:
    """The names in a server's list of models."""
    return [str(card["id"]) for card in listed.get("data") or []]


def check_log_probs(server: Server, top_k: int) -> None:
    """Ask for one token at two temperatures: there are ``top_k`` log-probabilities, and they do not depend on it.

    Raises SettingError or EngineError that names the server's option where not; RefusedError if it is no such server.
    """
    hot, cold = (_ask(server, top_k, temperature) for temperature in (1.0, 0.25))
    where, dialect = server.api.root, server.dialect
    if not len(hot.tokens):
        raise EngineError(f"{where} gives no tokens for a prompt of {len(PROMPT)} token ids")
    if not hot.ids.size:
        raise EngineError(f"{where} gives no log-probabilities with its tokens: {dialect.raw}")
    first, second = _by_id(hot), _by_id(cold)
    common = [(first[i], second[i]) for i in first.keys() & second.keys()]
    differences = np.ptp(np.subtract(*np.array(common).T)) if common else np.inf
    if differences > _RAW_WITHIN:
        raise EngineError(
            f"{where} changes its log-probabilities with the temperature; powercut needs raw ones: {dialect.raw}"
        )
    if len(first) < top_k:
        more = dialect.more.format(k=top_k)
        raise SettingError(f"top_k={top_k}: {where} gives only {len(first)} log-probabilities a token: {more}")


def _ask(server: Server, top_k: int, temperature: float) -> Chunk:
    dialect, where = server.dialect, server.api.root
    request = Request(np.array(PROMPT), 1, temperature=temperature, top_k=top_k)
    try:
        events = server.api.stream(dialect.path, dialect.payload(server.model, request, ()))
        chunks = [dialect.parse(event, 0) for event in events]
    except RefusedError as error:
        if "logprob" in error.reason.lower() and error.status not in (404, 405):
            more = dialect.more.format(k=top_k)
            raise SettingError(f"top_k={top_k}: {where} refuses ({error.reason}): {more}") from error
        raise
    except UnavailableError as error:
        raise EngineError(f"{error}: the server must be up and ready") from error
    except EngineError as error:
        raise EngineError(f"{where}: {error}: {dialect.raw}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(f"{where} answers in a form that is not {dialect.name}'s ({error!r})") from error
    return next((chunk for chunk in chunks if len(chunk.tokens)), Chunk(*_NOTHING))


_NOTHING = np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.int64), np.zeros((0, 0))


def _by_id(chunk: Chunk) -> dict[int, float]:
    """The log-probabilities of the first token."""
    pairs = zip(chunk.ids[0].tolist(), chunk.logprobs[0].tolist(), strict=True)
    return {i: value for i, value in pairs if i >= 0 and value > -1e3}


def _model_card(api: Api, model: str | None) -> Json:
    try:
        listed = api.get("/v1/models")
    except RefusedError as error:
        if error.status not in (404, 405):
            raise
        raise EngineError(f"{api.root} has no list of models: give the base URL, http://HOST:PORT/v1") from error
    except UnavailableError as error:
        raise EngineError(f"{error}: start the server, or check the address") from error
    cards: Sequence[Json] = (listed.get("data") if isinstance(listed, dict) else None) or []
    names = [str(card.get("id")) for card in cards]
    bases = [card for card in cards if not card.get("parent")]  # the others are adapters of them
    if model is None:
        if len(bases) == 1:
            return bases[0]
        raise SettingError(f"model: {api.root} serves {_spell(names)}: say which")
    if model not in names:
        raise SettingError(f"model: {api.root} serves {_spell(names)}, not {model}")
    return cards[names.index(model)]


def _spell(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "no model"


def _length(card: Json) -> int | None:
    """The longest context, in tokens, where the server says so."""
    length = card.get("max_model_len") or (card.get("meta") or {}).get("n_ctx")
    return None if length is None else int(length)
