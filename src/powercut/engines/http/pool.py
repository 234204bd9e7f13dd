"""The servers of one model: which serves whom, which are away, and how long a request waits for them."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from powercut.engines.http.api import Api, RefusedError, UnavailableError
from powercut.engines.http.dialects import Chunk, Dialect, Json, NoLogProbsError
from powercut.engines.protocol import Chain
from powercut.errors import EngineError, SettingError, one_line

log = logging.getLogger("powercut")

LONGEST_PAUSE = 10.0
"""Seconds between two attempts, at most, unless the server asks for more."""

QUIET = 60.0
"""Seconds in which one line says that a server is away, however often it fails and answers again."""

_DIED = ("out of memory", "memory slot", "enginecore", "enginedead")  # as servers word it


@dataclass(slots=True, eq=False)
class Server:
    """A server that passed the checks. ``running`` counts the requests that it serves now.

    ``places`` is how many it serves at once, ``context_length`` the most tokens of one, where it tells; ``visible`` a
    token that it shows, where it may hide some. One that is ``away`` has to be looked at again before it is used, best
    not before ``away_until`` (monotonic clock). ``heard`` is when its last token came, ``said_at`` when a line
    said that it is away, ``said_away`` that none has said since that it is back; ``warned``: one said that its streams
    repeat themselves.
    """

    api: Api
    model: str
    root: str
    dialect: Dialect
    context_length: int | None = None
    places: int | None = None
    visible: int | None = None
    running: int = 0
    away: bool = False
    away_until: float = 0.0
    heard: float = 0.0
    said_at: float | None = None
    said_away: bool = False
    warned: bool = False

    def __str__(self) -> str:
        return f"{self.api.root} ({self.dialect.name})"

    def note_token(self) -> None:
        """It is there, and works."""
        self.heard = time.monotonic()
        if self.away:
            self.away = False
            if self.said_away:
                self.said_away = False
                log.info("%s answers again", self.api.root)

    def note_failure(self, error: UnavailableError, heard: float, retry_for: float) -> None:
        """It failed, as it was last ``heard`` of by the request: unless tokens came since, others are told by one line.

        So that a failure on its way while the server came back is no second one.
        """
        now = time.monotonic()
        if heard < self.heard:
            return
        self.away_until = now + LONGEST_PAUSE
        if not self.away:
            self.away = True
            if self.said_at is None or now - self.said_at > QUIET:
                self.said_at, self.said_away = now, True
                waiting = "%s; chains wait, and go on when it answers (for %g seconds)"
                log.warning(waiting, self.reason(error), retry_for)

    def read(self, event: object, received: int) -> Chunk:
        """One event of its stream. Raises EngineError, which names the server, for one of another shape."""
        try:
            return self.dialect.read(event, received)
        except NoLogProbsError as error:
            raise NoLogProbsError(str(self)) from error
        except EngineError as error:
            raise self.wrong(error) from None  # it may quote the key

    def wrong(self, error: Exception) -> EngineError:
        """An error in what it says, as the user is told of it."""
        return EngineError(f"{self}: {one_line(self.api.clean(str(error)), 240)}")

    def lacks(self, top_k: int, how: str) -> SettingError:
        """That it does not give ``top_k`` log-probabilities a token, and what to do."""
        return SettingError(f"top_k={top_k}: {self.api.root} {how}: {self.dialect.more.format(k=top_k)}")

    def refusal(self, error: RefusedError, top_k: int) -> SettingError | None:
        """What it is if the server refuses so many log-probabilities."""
        asked = "logprob" in error.reason.lower() and error.status in (400, 422)
        return self.lacks(top_k, f"refuses ({error.reason})") if asked else None

    def reason(self, error: UnavailableError) -> str:
        """Why it is away, and what to lower where its memory may be why."""
        died = any(words in str(error).lower() for words in _DIED)
        return f"{error}: if memory ran short, lower concurrency, or {self.dialect.memory}" if died else str(error)


class Pool:
    """``servers`` that serve one model."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = tuple(servers)
        self._of: weakref.WeakKeyDictionary[Chain, Server] = weakref.WeakKeyDictionary()

    def pick(self, chain: Chain | None, *, but: Server | None = None, among: Collection[Server] = ()) -> Server:
        """The chain's server, which has its prefixes; else the least busy of those that are not away.

        ``among`` are the only ones to choose from, if there are any.
        """
        now = time.monotonic()
        server = None if chain is None else self._of.get(chain)
        if server is None or server is but or server.away:
            all_there = [server for server in self.servers if not among or server in among]
            others = [server for server in all_there if server is not but] or all_there
            server = min(others, key=lambda other: (other.away and now < other.away_until, other.running))
        if chain is not None:
            self._of[chain] = server
        return server


async def look_again(server: Server) -> None:
    """A server that was away may come back as another: EngineError. Raises UnavailableError if it is not back."""
    names = model_ids(model_cards(await server.api.get("/v1/models")))
    if server.model not in names:
        raise EngineError(f"{server.api.root} came back and serves {server.api.several(names)}, not {server.model}")


def model_cards(listed: Json) -> list[Json]:
    """What a server's list of models says of each; empty if it is no such list."""
    cards = listed.get("data") if isinstance(listed, dict) else None
    return [card for card in cards if isinstance(card, dict) and "id" in card] if isinstance(cards, list) else []


def model_ids(cards: Sequence[Json]) -> list[str]:
    """The names of the models."""
    return [str(card["id"]) for card in cards]


class Patience:
    """How long a request waits for servers that fail or are silent.

    Tries that fail are followed by others until ``retry_for`` seconds are over since the request's last token (its
    beginning, before there is one). A try without a token for the server's ``read_timeout`` has failed; one after the
    first is ended with ``retry_for``, though each has LONGEST_PAUSE seconds. So all ends with the longer of the two.

    ``attempts`` failed since the last token.
    """

    def __init__(self, retry_for: float, backoff: float) -> None:
        self._retry_for, self._backoff = retry_for, backoff
        self.renew(time.monotonic())

    def renew(self, since: float) -> None:
        """A token came then (monotonic clock)."""
        self._since, self.attempts = since, 0

    def limit(self, read_timeout: float) -> float:
        """Seconds that the next try may go on before its first token."""
        return min(read_timeout, max(self.left, LONGEST_PAUSE)) if self.attempts else read_timeout

    @property
    def waited(self) -> float:
        """Seconds since the last token."""
        return time.monotonic() - self._since

    @property
    def left(self) -> float:
        """Seconds that are still to be waited; 0 when it is time to give up."""
        return max(0.0, self._retry_for - self.waited)

    def pause(self, asked: float = 0.0) -> float:
        """Seconds to wait before the next attempt: more each time, and at least as many as the server ``asked`` for."""
        pause = min(self._backoff * 2.0 ** min(self.attempts, 60), LONGEST_PAUSE)
        self.attempts += 1
        return min(max(pause, asked), self.left)
