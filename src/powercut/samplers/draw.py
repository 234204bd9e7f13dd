"""One completion in the making: what asks the engine for tokens, and keeps account of what they cost."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from powercut.engines.protocol import Chain, Engine, KeepGoing, Request
from powercut.errors import SettingError, one_line
from powercut.samplers.decoding import Decoding
from powercut.samplers.guess import Guess, Key, key_of
from powercut.samplers.worth import Worth
from powercut.text import completion_text
from powercut.trace import Completion, Event, IntArray, Population, Stats, Step, Trace

Observer = Callable[[Event], None]

REDRAWS = 16
"""Draws of one extension, at the most, until it has what is required."""

T = TypeVar("T")

log = logging.getLogger("powercut")


class Draw:
    """One completion in the making, by requests of one chain. ``place`` is its prompt_index and sample_index.

    Used as ``async with``: leaving it cancels whatever still decodes if the chain failed, and else waits for it. Parts
    of the work may run side by side (``start``, ``together``). Each counts as about to ask the engine from its start
    until it does, and from an answer on until it asks again, ends or waits; a part that waits for another by ``wait``,
    ``first`` or ``together`` passes its turn on. So the engine knows at any moment whether a request is to come
    (``Chain.due``).
    """

    def __init__(
        self,
        engine: Engine,
        prompt: IntArray,
        decoding: Decoding,
        observe: Observer | None = None,
        place: tuple[int, int] = (0, 0),
    ) -> None:
        self.engine = engine
        self.steps: list[Step] = []
        self.nulls = 0  # null steps that were passed over
        self.worth = Worth(self.steps)
        self._prompt, self._decoding, self._observe, self._place = prompt, decoding.on(engine), observe, place
        self._start = time.perf_counter()
        self._decoded = self._prefilled = 0
        self._fitting: dict[bytes, bool] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._awaited: dict[asyncio.Task[Any], _Wait] = {}
        self._chain = Chain()
        self._guesses: dict[Key, Guess] = {}

    async def __aenter__(self) -> Draw:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        await self.settle()

    def temperature_at(self, position: int) -> float:
        """The temperature at which the token at a position of the completion is drawn."""
        return self._decoding.temperature_at(position)

    @property
    def redraws(self) -> bool:
        """Whether an extension may have to be drawn again."""
        return self._decoding.require is not None

    def idle(self, *, waits: bool) -> int:
        """How many more requests the engine could decode at once, beside those that this chain is about to make.

        One of these is the asker's own, unless it ``waits`` for a part of the work.
        """
        return self.engine.idle - max(0, self._chain.due - (not waits))

    @property
    def busy(self) -> int:
        """How many requests the engine decodes now, those of other chains included."""
        return self.engine.concurrency - self.engine.idle

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run part of the chain's work beside the rest."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        self._chain.expect(1)
        task.add_done_callback(self._ended)
        return task

    async def wait(self, task: asyncio.Task[T]) -> T:
        """The outcome of a part that was started."""
        self._hand_over([task], last=True)
        return await task

    async def first(self, tasks: Iterable[asyncio.Task[T]]) -> set[asyncio.Task[T]]:
        """Those of the parts that have ended, once any has."""
        tasks = list(tasks)
        self._hand_over(tasks, last=False)
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done

    async def together(self, work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """Run parts of the work side by side and wait for all, or for the first failure."""
        parts = list(work)
        if len(parts) == 1:
            return [await parts[0]]  # without the detour of a task
        tasks = [self.start(part) for part in parts]
        self._hand_over(tasks, last=True)
        return await asyncio.gather(*tasks)

    async def settle(self) -> None:
        """Wait for all that was started; what became of it is no longer of interest."""
        self._chain.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def extend(
        self,
        kept: Trace,
        horizon: int,
        seed: int,
        keep_going: KeepGoing | None = None,
        *,
        lane: int = 0,
        first: Trace | None = None,
    ) -> Trace:
        """Tokens that follow ``kept`` until a stop, ``horizon`` or ``keep_going`` ends them.

        ``first`` is the first of them where that is drawn already.
        Calls that overlap should differ in ``lane``, so that the engine keeps a cache for each.
        """
        trace, going = kept, True

        def ask(piece: Trace) -> bool:
            nonlocal going
            going = keep_going is None or keep_going(piece)
            return going

        for part, (end, temperature) in enumerate(self._decoding.parts(len(kept), horizon)):
            if part:  # noise of its own
                seed = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]) >> 1
            request = self._request(trace, end, temperature, seed, lane, None if part else first)
            guess = self._guesses.get(key_of(request)) if self._guesses else None
            if guess is not None and not guess.void:
                tail = await guess.take(ask)
            else:
                tail = await self._decode(request, None if keep_going is None else ask)
            trace = trace.splice(len(trace), tail)
            if tail.finished or not going:
                break
        return trace[len(kept) :]

    def guess(self, kept: Trace, horizon: int, seed: int, *, lane: int = 0, first: Trace | None = None) -> Guess:
        """Decode what ``extend`` may be asked for next with these arguments: if it is, it takes what came."""
        end, temperature = next(self._decoding.parts(len(kept), horizon))
        request = self._request(kept, end, temperature, seed, lane, first)
        guess = Guess(request, self._chain, lambda show: self.start(self._decode(request, show)))
        self._guesses = {key: each for key, each in self._guesses.items() if not each.void} | {guess.key: guess}
        return guess

    def _request(self, kept: Trace, end: int, temperature: float, seed: int, lane: int, first: Trace | None) -> Request:
        return Request(
            context=np.concatenate((self._prompt, kept.tokens)),
            max_new_tokens=end - len(kept),
            temperature=temperature,
            top_k=self._decoding.top_k,
            stop=self._decoding.stop,
            min_new_tokens=self._decoding.min_new_tokens,
            seed=seed,
            prompt_length=len(self._prompt),
            chain=self._chain,
            lane=lane,
            first=first,
            rows=self._decoding.rows,
        )

    async def _decode(self, request: Request, keep_going: KeepGoing | None) -> Trace:
        tail = await self.engine.extend(request, None if keep_going is None else self._timed(request, keep_going))
        self._decoded += len(tail) - request.known
        self._prefilled += tail.prefilled
        return tail

    def _timed(self, request: Request, keep_going: KeepGoing) -> KeepGoing:
        """The same, and takes the time between two tokens."""
        last: float | None = None
        known = request.known

        def ask(piece: Trace) -> bool:
            nonlocal last, known
            now = time.perf_counter()
            if last is not None:
                self.worth.took((now - last) / len(piece), self.busy)
            last = None if known else now  # what comes before the first token is drawn is no time between two
            known = 0
            return keep_going(piece)

        return ask

    async def grow(
        self,
        kept: Trace,
        horizon: int,
        rng: np.random.Generator,
        keep_going: KeepGoing | None = None,
        *,
        lane: int = 0,
    ) -> Trace:
        """``extend``, by a seed of ``rng``; if the target has no place for what comes, again, up to REDRAWS times.

        Not again once ``keep_going`` has said no.
        """
        wanted = True

        def ask(piece: Trace) -> bool:
            nonlocal wanted
            wanted = keep_going is None or keep_going(piece)
            return wanted

        for _ in range(REDRAWS):
            [seed] = request_seeds(rng, 1)
            tail = await self.extend(kept, horizon, seed, None if keep_going is None else ask, lane=lane)
            if not wanted or await self.fits(kept.splice(len(kept), tail)):
                break
        return tail

    async def fits(self, trace: Trace) -> bool:
        """Whether the target has a place for a completion: it has what is required, or may still come to have it.

        Raises EngineError if the text cannot be had.
        """
        require = self._decoding.require
        if require is None:
            return True
        if not trace.finished:
            return len(trace) < self._decoding.legs[-1][0]
        key = trace.tokens.tobytes()
        if key not in self._fitting:  # the current completion is asked about at every step
            text = await self.text_of(trace)
            found = re.search(require, text) if isinstance(require, str) else require(text)
            self._fitting[key] = bool(found)
        return self._fitting[key]

    def show(
        self,
        proposal: Trace,
        trace: Trace,
        *,
        stage: int = 0,
        stages: int = 1,
        step: Step | None = None,
        population: Population | None = None,
    ) -> None:
        """Tell the observer of an event, and keep its step."""
        if step is not None:
            self.steps.append(step)
        if self._observe is not None:
            self._observe(Event(stage, stages, step, proposal, trace, self._prompt, population))

    async def complete(self, trace: Trace, **weighed: Any) -> Completion:
        """The completion, with its steps and its cost; ``weighed`` are those fields of Stats that not all have.

        A text that cannot be had costs no completion: it is None then, and a note says why.
        """
        await self.settle()  # what is still being decoded in vain counts too
        text = None
        if self.engine.text is not None:
            try:
                text = await self.text_of(trace)
            except Exception as error:
                where = "prompt %d, sample %d is kept without its text, as tokens: %s"
                log.warning(where, *self._place, one_line(error))
        required = self._decoding.require is not None
        steps = tuple(self.steps)
        stats = Stats.of(
            steps,
            self.nulls,
            tokens_decoded=self._decoded,
            tokens_prefilled=self._prefilled,
            seconds=time.perf_counter() - self._start,
            satisfied=trace.finished and await self.fits(trace) if required else None,
            **weighed,
        )
        # The laws along it, 400 bytes a token, were for the chain.
        return Completion(replace(trace, rows=None), stats, steps, text, *self._place)

    async def text_of(self, trace: Trace) -> str:
        """What a user is shown of a completion. Where the model has no text, SettingError; EngineError as it may be."""
        if self.engine.text is None:
            raise SettingError("this model has no tokenizer, and its completions have no text")
        free = self._decoding.min_new_tokens  # no stop string is looked for in so many tokens
        return await completion_text(self.engine.text, trace.tokens.tolist(), self._decoding.stop, free)

    def _hand_over(self, tasks: Iterable[asyncio.Task[Any]], *, last: bool) -> None:
        """The caller is about to wait for ``tasks``: its turn is that of the last of them to end, or of the first."""
        running = {task for task in tasks if not task.done()}
        if running:
            self._chain.expect(-1)
            wait = _Wait(running, last)
            self._awaited.update(dict.fromkeys(running, wait))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        wait = self._awaited.pop(task, None)
        if wait is None or not wait.passes_on(task):
            self._chain.expect(-1)
        if not task.cancelled():
            task.exception()  # of several failures the first is raised; asyncio is told that the others are known


class _Wait:
    """Who passes a turn to whoever waits for ``running``: the ``last`` of them to end, or else the first."""

    def __init__(self, running: set[asyncio.Task[Any]], last: bool) -> None:
        self._running, self._last, self._passed = running, last, False

    def passes_on(self, task: asyncio.Task[Any]) -> bool:
        """Whether ``task``, which has ended, is the one."""
        self._running.discard(task)
        passes = not self._passed and (not self._last or not self._running)
        self._passed = self._passed or passes
        return passes


def spawn(rng: np.random.Generator, count: int) -> list[np.random.Generator]:
    """``count`` independent generators: the next children of the generator's seed."""
    try:
        return rng.spawn(count)
    except TypeError:
        raise SettingError("rng must be made from a seed, as numpy.random.default_rng(seed) is") from None


def request_seeds(rng: np.random.Generator, count: int) -> list[int]:
    """``count`` seeds for requests, of 63 bits each."""
    return [int(seed) for seed in rng.integers(2**63, size=count)]
