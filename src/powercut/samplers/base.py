"""What every sampler shares: its settings, how it asks an engine for tokens, and how it keeps account of the cost."""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from powercut.engines.protocol import Engine, KeepGoing, Request
from powercut.errors import SettingError
from powercut.trace import Completion, Event, IntArray, Stats, Step, Trace

Observer = Callable[[Event], None]

T = TypeVar("T")


def setting(
    default: Any,
    text: str,
    *,
    at_least: float | None = None,
    at_most: float = math.inf,
    whole: bool = False,
    optional: bool = False,
) -> Any:
    """A sampler's field: its default, its help text, the numbers that make sense, and whether None does."""
    limits = {"at_least": at_least, "at_most": at_most, "whole": whole, "optional": optional}
    return field(default=default, metadata={"help": text, **limits})


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """The settings common to all samplers. ``await sampler(engine, prompt, rng)`` draws one completion.

    Raises SettingError, naming the setting and the remedy, for values that make no sense.
    """

    max_new_tokens: int = setting(1024, "Longest completion, in tokens (the horizon T).", at_least=1, whole=True)
    top_k: int | None = setting(
        50, "Truncate the base model to its K most likely tokens (None: all).", at_least=1, whole=True, optional=True
    )
    stop: tuple[str | int, ...] = setting(
        (), "Text, or a token id, that ends a completion; may be given several times."
    )

    def __post_init__(self) -> None:
        for name, info in self.__dataclass_fields__.items():
            value, rule = getattr(self, name), info.metadata
            if isinstance(info.default, bool) and not isinstance(value, bool | np.bool_):
                raise SettingError(f"{name} must be True or False (got {value!r})")
            if rule.get("at_least") is not None and not (value is None and rule["optional"]):
                check_number(name, value, least=rule["at_least"], most=rule["at_most"], whole=rule["whole"])
        object.__setattr__(self, "stop", _check_stop(self.stop))

    @property
    @abstractmethod
    def proposal_temperature(self) -> float:
        """The temperature tau at which tokens are drawn."""

    @property
    def width(self) -> int:
        """How many requests one completion makes at once, look-ahead not counted."""
        return 1

    def for_sample(self, prompt_index: int, sample_index: int) -> Sampler:
        """The sampler for one completion of a run: itself, unless its settings differ between them.

        Raises SettingError if there are none for this one.
        """
        return self

    def legs(self, start: int, horizon: int) -> Iterable[tuple[int, float]]:
        """How a decode goes from ``start`` tokens to ``horizon``: where each part ends, and at which temperature."""
        return ((horizon, self.proposal_temperature),)

    def request(
        self,
        prompt: IntArray,
        kept: IntArray | None = None,
        *,
        horizon: int,
        seed: int = 0,
        session: Hashable | None = None,
        temperature: float | None = None,
    ) -> Request:
        """Ask for the rest of a completion of ``prompt`` that begins with ``kept``, up to ``horizon`` tokens in all.

        ``temperature`` None is ``proposal_temperature``.
        """
        kept = np.zeros(0, dtype=np.int64) if kept is None else kept
        return Request(
            context=np.concatenate((prompt, kept)),
            max_new_tokens=horizon - len(kept),
            temperature=self.proposal_temperature if temperature is None else temperature,
            top_k=self.top_k,
            stop=self.stop,
            seed=seed,
            prompt_length=len(prompt),
            session=session,
        )

    @abstractmethod
    async def __call__(
        self, engine: Engine, prompt: IntArray, rng: np.random.Generator, observe: Observer | None = None
    ) -> Completion:
        """Draw one completion of ``prompt`` (token ids ``[m]``) from ``engine``.

        All randomness comes from ``rng``: step i uses the i-th child of its seed and nothing else, so that no schedule
        of concurrent work changes the result. ``observe`` is shown every Event as it happens.
        """


class Draw:
    """One completion in the making: asks the engine for tokens and keeps account of what they cost.

    Used as ``async with``: leaving it cancels whatever still decodes if the chain failed, and else waits for it.
    """

    def __init__(self, sampler: Sampler, engine: Engine, prompt: IntArray, observe: Observer | None) -> None:
        self.engine = engine
        self.steps: list[Step] = []
        self._sampler, self._prompt, self._observe = sampler, prompt, observe
        self._start = time.perf_counter()
        self._decoded = self._prefilled = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._key = object()

    async def __aenter__(self) -> Draw:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        await self.settle()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run part of the chain's work beside the rest."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # of several failures the first is raised; asyncio is told that the others are known

    async def settle(self) -> None:
        """Wait for all that was started; what became of it is no longer of interest."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def extend(
        self,
        kept: Trace,
        horizon: int,
        seed: int,
        keep_going: KeepGoing | None = None,
        *,
        lane: int = 0,
    ) -> Trace:
        """Tokens that follow ``kept`` until a stop, ``horizon`` or ``keep_going`` ends them.

        Calls that overlap should differ in ``lane``, so that the engine keeps a cache for each.
        """
        session, trace, going = (self._key, lane), kept, True

        def ask(piece: Trace) -> bool:
            nonlocal going
            going = keep_going is None or keep_going(piece)
            return going

        for leg, (end, temperature) in enumerate(self._sampler.legs(len(kept), horizon)):
            if leg:  # noise of its own
                [seed] = seeds_of(np.random.SeedSequence(seed), 1)
            request = self._sampler.request(
                self._prompt, trace.tokens, horizon=end, seed=seed, session=session, temperature=temperature
            )
            tail = await self.engine.extend(request, None if keep_going is None else ask)
            self._decoded += len(tail)
            self._prefilled += tail.prefilled
            trace = trace.splice(len(trace), tail)
            if tail.finished or not going:
                break
        return trace[len(kept) :]

    def show(self, proposal: Trace, trace: Trace, *, stage: int = 0, stages: int = 1, step: Step | None = None) -> None:
        """Tell the observer of an event, and keep its step."""
        if step is not None:
            self.steps.append(step)
        if self._observe is not None:
            self._observe(Event(stage, stages, step, proposal, trace))

    async def together(self, work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """Run parts of the work side by side and wait for all, or for the first failure."""
        parts = list(work)
        if len(parts) == 1:
            return [await parts[0]]  # without the detour of a task, which takes turns of the event loop
        return await asyncio.gather(*map(self.start, parts))

    async def complete(self, trace: Trace, **weighed: Any) -> Completion:
        """The completion, with its steps and its cost; ``weighed`` are those fields of Stats that not all have."""
        await self.settle()  # what is still being decoded in vain counts too
        steps = tuple(self.steps)
        stats = Stats(
            steps=len(steps),
            acceptance=sum(step.accepted for step in steps) / len(steps) if steps else None,
            tokens_decoded=self._decoded,
            tokens_prefilled=self._prefilled,
            seconds=time.perf_counter() - self._start,
            **weighed,
        )
        return Completion(trace=trace, stats=stats, steps=steps)


def spawn(rng: np.random.Generator, count: int) -> list[np.random.SeedSequence]:
    """The next ``count`` children of the generator's seed."""
    seeds = rng.bit_generator.seed_seq
    if not isinstance(seeds, np.random.SeedSequence):
        raise SettingError("rng must be made from a seed, as numpy.random.default_rng(seed) is")
    return seeds.spawn(count)


def seeds_of(sequence: np.random.SeedSequence, count: int) -> list[int]:
    """``count`` seeds for requests, of 63 bits each."""
    return [int(state) >> 1 for state in sequence.generate_state(count, np.uint64)]


def check_number(
    name: str, value: Any, least: float, most: float = math.inf, *, whole: bool = False, otherwise: str = ""
) -> None:
    """Raise SettingError, naming the setting, unless ``value`` is a (whole) number from ``least`` to ``most``."""
    kinds = (int, np.integer) if whole else (int, float, np.number)
    if isinstance(value, bool | np.complexfloating) or not isinstance(value, kinds) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
        raise SettingError(f"{name} must be {kind} {limits}{otherwise} (got {value!r})")


def _check_stop(stop: Any) -> tuple[str | int, ...]:
    if isinstance(stop, str | bytes | int | np.integer) or not isinstance(stop, Iterable):
        stop = (stop,)
    kept: list[str | int] = []
    for item in stop:
        if isinstance(item, bytes | bool) or not isinstance(item, str | int | np.integer):
            raise SettingError(f"stop must be texts and token ids (got {item!r})")
        if item == "":
            raise SettingError("stop: a stop string cannot be empty; leave it out")
        kept.append(item if isinstance(item, str) else int(item))
    return tuple(kept)
