"""What a sampler knows of an engine: a Request goes in, a Trace comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from powercut.errors import ContextLengthError, SettingError
from powercut.text import Text
from powercut.trace import IntArray, Trace, read_only

KeepGoing = Callable[[Trace], bool]
"""Called with each new piece of a decode as it arrives; False ends the decode there: its tokens are not wanted."""


class Chain:
    """One chain of work, from which requests come: an engine keeps the cache of their common prefix between them.

    ``due`` counts the requests that the chain is about to make. An engine that decodes many chains together waits a
    moment for them before it goes on, since whoever comes too late misses a pass. A chain that makes one request after
    another needs to do no more than ``close`` at its end, or be used in a ``with`` statement; one whose requests
    overlap corrects the count (``samplers/draw.py``).
    """

    __slots__ = ("__weakref__", "_closed", "_due")

    def __init__(self) -> None:
        self._due, self._closed = 1, False

    @property
    def due(self) -> int:
        """How many requests are to be expected now, without delay."""
        return 0 if self._closed else max(0, self._due)

    @property
    def closed(self) -> bool:
        """Whether it has come to its end: nobody asks for what its last requests left in a cache."""
        return self._closed

    def expect(self, requests: int) -> None:
        """Correct the count: so many requests more, or fewer."""
        self._due += requests

    def close(self) -> None:
        """Nothing more is to come soon."""
        self._closed = True

    def __enter__(self) -> Chain:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """Continue ``context`` by at most ``max_new_tokens`` tokens drawn at ``temperature`` from the base model.

    ``context`` is a prompt and what is already generated, as token ids; its first ``prompt_length`` tokens (None: all)
    are the prompt, in which no stop string is looked for. ``top_k`` truncates the base model to its K most likely
    tokens and renormalises it (None: the whole vocabulary); log-probabilities and entropies are of the truncated law.
    ``stop`` adds token ids and strings to the engine's own stop tokens. Before a completion has ``min_new_tokens``
    tokens no stop ends it: the law there is the truncated one without stop tokens, renormalised, and stop strings are
    looked for only in the text of what comes later. The tokens drawn are a function of these fields alone. ``chain``
    and ``lane`` are no such fields: they tell an engine whose cache to keep. Requests of one chain that overlap in time
    are in different lanes, each with a cache of its own. ``first`` is a token that was drawn already, with its law, and
    counts as the first of those asked for. ``rows`` asks for the laws at all positions, which an engine may not have.

    Raises SettingError for values that no engine can use.
    """

    context: IntArray
    max_new_tokens: int
    temperature: float = 1.0
    top_k: int | None = None
    stop: tuple[str | int, ...] = ()
    seed: int = 0
    prompt_length: int | None = None
    chain: Chain | None = None
    lane: int = 0
    min_new_tokens: int = 0
    first: Trace | None = None
    rows: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "context", read_only(self.context, np.int64))
        if self.context.ndim != 1 or not len(self.context):
            raise SettingError("the prompt is empty: an engine needs at least one token to continue")
        if self.max_new_tokens < 1:
            raise SettingError(f"max_new_tokens must be at least 1 (got {self.max_new_tokens})")
        if not 0 < self.temperature < float("inf"):
            raise SettingError(f"temperature must be a positive number (got {self.temperature})")
        if self.top_k is not None and self.top_k < 1:
            raise SettingError(f"top_k must be at least 1, or None for the whole vocabulary (got {self.top_k})")
        if "" in self.stop:
            raise SettingError("a stop string cannot be empty: leave it out")

    @property
    def generated(self) -> IntArray:
        """The part of the context that is not the prompt."""
        return self.context[len(self.context) if self.prompt_length is None else self.prompt_length :]

    @property
    def known(self) -> int:
        """How many of the tokens asked for were drawn already: nothing is decoded for them."""
        return 0 if self.first is None else len(self.first)

    @property
    def stopless(self) -> int:
        """How many of the tokens to be drawn come too early for a stop."""
        return max(0, self.min_new_tokens - len(self.generated))

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The stops that are text."""
        return tuple(stop for stop in self.stop if isinstance(stop, str))

    @property
    def stop_ids(self) -> frozenset[int]:
        """The stops that are token ids."""
        return frozenset(stop for stop in self.stop if not isinstance(stop, str))


def check_request(
    request: Request,
    *,
    reads_text: bool,
    special: Mapping[str, int] | None = None,
    context_length: int | None = None,
    vocab_size: int | None = None,
    whole_vocabulary: bool = True,
    temperatures: tuple[float, float] = (0.0, float("inf")),
    longer: str = "raise context_length",
    textless: str = "this model has no tokenizer; give stop token ids",
) -> None:
    """Raise SettingError if an engine of these sizes, in tokens, can never serve ``request``. None: not known.

    It is a ContextLengthError for a context that is too long.

    Without ``reads_text`` it cannot look for stop strings, for which ``textless`` gives the remedy, as ``longer`` does
    for a context that is too long. ``special`` are its tokens without text, ids by name: no stop string may hold one.
    ``whole_vocabulary`` False: it needs a top_k. ``temperatures`` are the least and the most that it can draw at.
    """
    top_k, size = request.top_k, len(request.context) + request.max_new_tokens
    if top_k is None and not whole_vocabulary:
        raise SettingError(
            "top_k=None: this engine is told of the most likely tokens only; give a top_k (50 is usual), "
            "or use the transformers engine"
        )
    if top_k is not None and vocab_size is not None and top_k > vocab_size:
        raise SettingError(
            f"top_k={top_k} is larger than the vocabulary of {vocab_size} tokens: lower it"
            + (", or give None for all" if whole_vocabulary else "")
        )
    if vocab_size is not None and (highest := max(request.stop_ids, default=0)) >= vocab_size:
        raise SettingError(f"stop: there is no token {highest} in the vocabulary of {vocab_size}, counted from 0")
    if context_length is not None and size > context_length:
        raise ContextLengthError(
            f"a prompt of {len(request.context)} tokens and max_new_tokens={request.max_new_tokens} exceed "
            f"context_length={context_length}: shorten the prompt, lower max_new_tokens or {longer}"
        )
    least, most = temperatures
    if not least <= request.temperature <= most:
        raise SettingError(
            f"temperature {request.temperature:g} of the proposal is outside {least:g} to {most:g}, "
            "where this engine can draw"
        )
    for name, token in (special or {}).items() if request.stop_strings else ():
        if stop := next((stop for stop in request.stop_strings if name in stop), None):
            raise SettingError(
                f"stop={stop!r}: {name!r} is a special token, which is no part of the text; give its id, {token}"
            )
    if request.stop_strings and not reads_text:
        raise SettingError(f"stop={request.stop_strings[0]!r}: {textless}")
    if request.context.min() < 0 or (vocab_size is not None and request.context.max() >= vocab_size):
        known = "0 and above" if vocab_size is None else f"0..{vocab_size - 1}"
        raise SettingError(f"the prompt has token ids outside {known}")


@dataclass(slots=True)
class Usage:
    """What an engine has computed since it was loaded, in tokens."""

    decoded: int = 0
    prefilled: int = 0
    reused: int = 0


class Engine(Protocol):
    """A language model that continues token ids. Concurrent ``extend`` calls are batched by the engine itself.

    ``concurrency`` is how many requests it decodes at once; more may wait. ``usage`` is the engine's own count of its
    work. It may be used from one event loop after another.
    """

    name: str
    concurrency: int
    usage: Usage

    @property
    def text(self) -> Text | None:
        """Translates between strings and token ids; None where the model has no text."""

    @property
    def idle(self) -> int:
        """How many more requests it could decode at once with those it has now."""

    def describe(self) -> str:
        """One line for people: the model, where it runs, the memory it takes."""

    def check(self, request: Request) -> None:
        """Raise SettingError, naming the setting and the remedy, if the engine can never serve ``request``."""

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        """Draw tokens until a stop, ``max_new_tokens``, or ``keep_going`` returning False.

        Every token is handed to ``keep_going`` once, in order. The trace returned holds every token decoded; after an
        abort that may be a few more than ``keep_going`` saw.

        Raises SettingError as ``check`` does, EngineError when the model fails, or after ``aclose``. Cancelling frees
        the work.
        """

    async def aclose(self) -> None:
        """Give back memory, processes and connections. Requests that still run fail; a second call does nothing."""
