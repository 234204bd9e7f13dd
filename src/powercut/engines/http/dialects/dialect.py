"""What a dialect is: how one kind of server is asked for tokens, and how what it streams is read.

Every request turns off whatever else bends the law (top-p, min-p, penalties): servers take defaults for these from the
model's generation config or from their own. The server's own stop tokens are left in force; each of these servers
returns the token that stopped it like any other. (``ignore_eos`` is no alternative: llama.cpp takes it as a ban of the
token, which changes the law, and the others would decode on in vain.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from powercut.engines.laws import padded_rows, whole_numbers
from powercut.engines.protocol import Request
from powercut.errors import EngineError
from powercut.trace import FloatArray, IntArray

Json = dict[str, Any]

Entries = Iterable[tuple[Any, Any]]
"""Ids and log-probabilities of the likely tokens at one position."""


class NoLogProbsError(EngineError):
    """The server gave tokens without log-probabilities."""

    def __init__(self, server: str = "the server") -> None:
        super().__init__(f"{server} gives no log-probabilities with its tokens, or not with all")


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one event of a stream brings: ``tokens`` ``[n]``, for each the likely ``ids`` and ``logprobs``, ``[n, K]``.

    ``end`` is ``stop`` or ``length`` when the server says that it is done, another word when it failed. ``total`` is
    its own count of the tokens decoded so far, ``prefilled`` of the context tokens it had to compute. ``repeated``:
    what came before was sent once more.
    """

    tokens: IntArray
    ids: IntArray
    logprobs: FloatArray
    end: str | None = None
    total: int | None = None
    prefilled: int | None = None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Hiding:
    """How a server hides tokens, and how it is made to tell of them.

    ``force(payload, token)`` is the payload that has ``token`` drawn first, with log-probabilities still raw;
    ``hidden(event)`` are the ids, among the most likely ones of that answer, that it would not have shown.
    """

    force: Callable[[Json, int], Json]
    hidden: Callable[[Json], frozenset[int]]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of server. ``payload(model, request, stop_ids)`` is the body to post to ``path``.

    ``parse(event, received)`` reads one event of the answer, ``received`` tokens having come before it. With
    ``end_apart`` the server says only after a token that it was the last. ``temperatures`` are the least and the most
    that the server draws at. ``raw`` and ``more`` are the remedies for log-probabilities that are not raw, or not
    enough; ``brief`` that for a stream that repeats itself; ``memory`` are the options to lower where it runs out of
    memory. ``about`` is where it tells how many requests it serves at once and how long they can be, which
    ``read_about`` finds. ``to_tokenize(model, text, special)`` is the body for ``/tokenize``, with or without the
    special tokens that the tokenizer adds; ``template`` is where it renders a conversation as text, if it does not at
    ``/tokenize``.
    """

    name: str
    path: str
    payload: Callable[[str, Request, Sequence[int]], Json]
    parse: Callable[[Json, int], Chunk]
    raw: str
    more: str
    memory: str
    brief: str = ""
    temperatures: tuple[float, float] = (0.0, math.inf)
    end_apart: bool = False
    hiding: Hiding | None = None
    about: str | None = None
    read_about: Callable[[Json], tuple[int | None, int | None]] = lambda _: (None, None)
    to_tokenize: Callable[[str, str, bool], Json] = lambda model, text, special: {
        "model": model,
        "prompt": text,
        "add_special_tokens": special,
    }
    template: str | None = None

    def read(self, event: Any, received: int) -> Chunk:
        """``parse`` an event of any shape. Raises EngineError for one that is not this server's."""
        try:
            return self.parse(event, received)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise EngineError(f"no answer of {self.name} ({type(error).__name__}: {error})") from error


def chunk_of(tokens: Sequence[Any], rows: Iterable[Entries], **rest: Any) -> Chunk:
    """A chunk of rows that may differ in length. Raises NoLogProbsError if there is not one for each token."""
    listed = [list(row) for row in rows]
    if len(listed) != len(tokens):
        raise NoLogProbsError
    flat = [entry for row in listed for entry in row]
    widths = np.array([len(row) for row in listed], dtype=np.int64)
    ids, logprobs = padded_rows(widths, [token for token, _ in flat], [value for _, value in flat])
    return Chunk(whole_numbers(tokens), ids, logprobs, **rest)


def law_asked(request: Request) -> Json:
    """The law to draw from, in the words that all servers share: the model's own, truncated, at a temperature."""
    return {
        "temperature": request.temperature,
        "top_k": request.top_k,
        "top_p": 1.0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }


def told_count(value: Any) -> int | None:
    """A count that a server may tell. Raises TypeError for what is neither absent nor a whole number."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise TypeError(f"{value!r} is no count")
    return value


def computed(context: Any, cached: Any) -> int | None:
    """How many context tokens were computed, if the server says how many of them were cached."""
    size, reused = told_count(context), told_count(cached)
    return None if size is None or reused is None else max(0, size - reused)
