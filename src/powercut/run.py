"""Many prompts: encode them, run their chains side by side, and hand over each completion as it finishes."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future, wait
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

import numpy as np

from powercut.engines.protocol import Engine, KeepGoing, Request
from powercut.errors import BudgetError, EngineError, PromptError, SettingError, quoted
from powercut.prompt import Prompt, TemplateArgs, check_system, check_template_args
from powercut.records import Completed
from powercut.samplers import BestOfN
from powercut.samplers.draw import Observer
from powercut.samplers.sampler import Sampler
from powercut.samplers.settings import check_number
from powercut.text import encode_prompt
from powercut.trace import Completion, Event, IntArray, Trace

RunObserver = Callable[[int, int, Event], None]
"""Called with the prompt index, the sample index and the event."""

Spent = Mapping[tuple[int, int], int]
"""Tokens decoded for each completion, by prompt index and sample index."""

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Failure:
    """A completion that could not be drawn, and why; the others are not affected."""

    prompt_index: int
    sample_index: int
    error: Exception


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What ``astream`` takes besides engine, sampler and prompts; it says what each means.

    Raises SettingError, naming the option, for a value that makes no sense.
    """

    n: int = 1
    seed: int = 0
    chat: bool | None = None
    system: str | None = None
    template_args: TemplateArgs | None = None
    observe: RunObserver | None = None
    concurrency: int | None = None
    max_total_tokens: int | None = None
    match: Spent | None = None
    skip_bad: bool = False

    def __post_init__(self) -> None:
        check_number("n", self.n, 1, whole=True)
        check_number("seed", self.seed, 0, whole=True, counts=False)
        if self.observe is not None and not callable(self.observe):
            raise SettingError(f"observe must be a function (got {quoted(self.observe)})")
        for name, value, *allowed in (("chat", self.chat, True, False, None), ("skip_bad", self.skip_bad, True, False)):
            if not any(value is each for each in allowed):
                raise SettingError(f"{name} must be {' or '.join(map(str, allowed))} (got {quoted(value)})")
        if self.system is not None:
            check_system(self.system)
        object.__setattr__(self, "template_args", check_template_args(self.template_args, self.chat))
        if self.concurrency is not None:
            check_number("concurrency", self.concurrency, 1, whole=True)
        if self.max_total_tokens is not None:
            check_number("max_total_tokens", self.max_total_tokens, 1, 10**15, whole=True)


def astream(
    engine: Engine,
    sampler: Sampler,
    prompts: Iterable[Prompt],
    *,
    n: int = 1,
    seed: int = 0,
    chat: bool | None = None,
    system: str | None = None,
    template_args: TemplateArgs | None = None,
    observe: RunObserver | None = None,
    concurrency: int | None = None,
    max_total_tokens: int | None = None,
    match: Spent | Iterable[Completion | Completed] | None = None,
    skip_bad: bool = False,
) -> AsyncGenerator[Completion | Failure, None]:
    """Draw ``n`` completions of each prompt and yield each as soon as it is done, in any order.

    A prompt is a string, a list of chat messages, or a sequence of token ids. ``chat`` None puts a string into the
    model's chat template if it has one, True insists on it, False never does; ``system`` is the system message, and
    ``template_args`` are variables of the template, such as ``{"enable_thinking": False}``. The same ``seed`` gives the
    same completions: sample j of prompt i depends on ``(seed, i, j)`` alone.

    At most ``concurrency`` chains (None: as many as keep the engine full) run side by side; the rest wait their turn in
    order, and no chain waits for another otherwise. Once this run has decoded ``max_total_tokens`` tokens no further
    chain starts: those running end in their own time, the others fail with BudgetError.
    ``observe(prompt_index, sample_index, event)`` is called as the chains move. ``match`` are the completions of
    another run of the same prompts, or the tokens decoded for each: best-of-n may spend on each completion what that
    one took.

    Closing the iterator cancels what is still running. Raises SettingError, before anything is sampled, if a prompt or
    a setting cannot be used; with ``skip_bad`` the completions of such a prompt fail, and the others are drawn.
    """
    return stream(
        engine,
        sampler,
        prompts,
        RunOptions(
            n=n,
            seed=seed,
            chat=chat,
            system=system,
            template_args=template_args,
            observe=observe,
            concurrency=concurrency,
            max_total_tokens=max_total_tokens,
            match=None if match is None else spent_on(match),
            skip_bad=skip_bad,
        ),
    )


async def stream(
    engine: Engine, sampler: Sampler, prompts: Iterable[Prompt], options: RunOptions
) -> AsyncGenerator[Completion | Failure, None]:
    """``astream``, with its options in one object."""
    n, budget = options.n, options.max_total_tokens
    encoded = await _encode(engine, sampler, prompts, options)
    total = len(encoded) * n
    _check_match(sampler, options, len(encoded))
    work = ((i, j) for i in range(len(encoded)) for j in range(n))
    done: asyncio.Queue[Completion | Failure] = asyncio.Queue()
    metered = _Metered(engine)

    async def worker() -> None:
        for i, j in work:  # one iterator shared by all workers: each takes the next chain when it is free
            if isinstance(prompt := encoded[i], SettingError):
                done.put_nowait(Failure(i, j, prompt))
            elif budget is not None and metered.decoded >= budget:
                reason = f"not started: the {budget} tokens of max_total_tokens are spent"
                done.put_nowait(Failure(i, j, BudgetError(reason)))
            else:
                observe = None if options.observe is None else functools.partial(options.observe, i, j)
                one = sampler_at(sampler, options, i, j)
                done.put_nowait(await draw_one(metered, one, prompt, (i, j), options.seed, observe))

    if (concurrency := options.concurrency) is None:
        width = sampler_at(sampler, options, 0, 0).width if total else 1
        concurrency = -(-engine.concurrency // width)
    workers = [asyncio.create_task(worker()) for _ in range(min(concurrency, total))]
    try:
        for _ in range(total):
            yield await done.get()
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _with_signature_of(other: Callable[P, Any]) -> Callable[[Callable[..., T]], Callable[P, T]]:
    """Show the parameters of ``other``, to which a function passes all its arguments on, as its own."""

    def decorate(function: Callable[..., T]) -> Callable[P, T]:
        shown = inspect.signature(other).replace(return_annotation=inspect.signature(function).return_annotation)
        function.__signature__ = shown  # type: ignore[attr-defined]
        return function

    return decorate


@_with_signature_of(astream)
async def asample(*args: Any, **options: Any) -> list[Completion]:
    """Draw ``n`` completions of each prompt; returns them prompt by prompt. The options are those of ``astream``.

    Raises SettingError, before anything is sampled, if a prompt or a setting cannot be used, and the first EngineError
    if decoding fails. ``astream`` keeps the other completions then.
    """
    completions: list[Completion] = []
    async with aclosing(astream(*args, **options)) as outcomes:
        async for outcome in outcomes:
            if isinstance(outcome, Failure):
                raise outcome.error
            completions.append(outcome)
    return sorted(completions, key=lambda c: (c.prompt_index, c.sample_index))


@_with_signature_of(astream)
def sample(*args: Any, **options: Any) -> list[Completion]:
    """``asample``, from code that does not await. In a running event loop too (a notebook), in a thread of its own."""
    return run(asample(*args, **options))


def sampler_at(sampler: Sampler, options: RunOptions, prompt_index: int, sample_index: int) -> Sampler:
    """The sampler of one completion of a run: with ``match``, best-of-n with that completion's budget."""
    if options.match is None:
        return sampler
    assert isinstance(sampler, BestOfN), "checked before anything is sampled"
    return replace(sampler, budget=options.match[prompt_index, sample_index])


class _Metered:
    """An engine, and the tokens that it has ``decoded`` for one run: others may use it at the same time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.decoded = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        trace = await self._engine.extend(request, keep_going)
        self.decoded += len(trace)
        return trace


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, whether or not an event loop is running in this thread.

    An interruption (Ctrl-C, a notebook's stop button) cancels it, and is raised again once it has ended.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: Future[T] = Future()
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = Future()

    async def in_loop() -> T:
        task = asyncio.ensure_future(work)
        started.set_result((asyncio.get_running_loop(), task))
        return await task

    def in_thread() -> None:
        try:
            outcome.set_result(asyncio.run(in_loop()))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=in_thread, name="powercut")
    try:
        thread.start()
        return outcome.result()
    except BaseException:
        if not outcome.done() and thread in threading.enumerate():
            loop, task = started.result()
            loop.call_soon_threadsafe(task.cancel)
            wait([outcome])  # not join: once interrupted, Python 3.11 takes the thread for ended
        raise


def spent_on(match: Spent | Iterable[Completion | Completed]) -> Spent:
    """The tokens decoded for each completion, from these, from their records, or from the numbers themselves.

    Raises SettingError for anything else, and for two completions of one place.
    """
    if isinstance(match, Mapping):
        return match
    kept: dict[tuple[int, int], int] = {}
    for completion in match if isinstance(match, Iterable) else (match,):
        if not isinstance(completion, Completion | Completed):
            raise SettingError(f"match must be completions of another sampler (got {quoted(completion)})")
        place = completion.prompt_index, completion.sample_index
        if place in kept:
            raise SettingError(f"match has two completions for prompt {place[0]}, sample {place[1]}: give one run's")
        kept[place] = completion.stats.tokens_decoded
    return kept


def _check_match(sampler: Sampler, options: RunOptions, prompts: int) -> None:
    if options.match is None:
        return
    if not isinstance(sampler, BestOfN):
        raise SettingError(f"match says what best-of-n may spend; {type(sampler).__name__} has no budget")
    if sampler.budget is not None:
        raise SettingError("budget and match say the same thing twice: give one of them")
    for i in range(prompts):
        for j in range(options.n):
            if (i, j) not in options.match:
                raise SettingError(
                    f"match has no completion for prompt {i}, sample {j}: draw as many there, of the same prompts"
                )
            check_number("match: the tokens decoded", options.match[i, j], 1, whole=True)


async def _encode(
    engine: Engine, sampler: Sampler, prompts: Iterable[Prompt], options: RunOptions
) -> list[IntArray | SettingError]:
    """Every prompt as token ids, checked against the engine for the longest request that can arise; or its error."""
    if isinstance(prompts, str) or not isinstance(prompts, Iterable):
        raise SettingError(f"prompts must be a list of prompts: put the prompt into a list (got {quoted(prompts)})")
    encoded: list[IntArray | SettingError] = []
    for i, prompt in enumerate(prompts):
        try:
            tokens = await encode_checked(
                *(engine, sampler, prompt),
                chat=options.chat,
                system=options.system,
                template_args=options.template_args,
            )
        except SettingError as error:
            if not options.skip_bad:
                raise PromptError(i, error) from error
            encoded.append(error)
        else:
            encoded.append(tokens)
    return encoded


async def encode_checked(engine: Engine, sampler: Sampler, prompt: Prompt, **how: Any) -> IntArray:
    """A prompt's token ids (``how``: as ``encode_prompt`` has it); SettingError if the longest request cannot be."""
    tokens = np.array(await encode_prompt(engine.text, prompt, **how), dtype=np.int64)
    for request in sampler.decoding.on(engine).longest(tokens):
        engine.check(request)
    return tokens


async def draw_one(
    engine: Engine,
    sampler: Sampler,
    prompt: IntArray,
    place: tuple[int, int],
    seed: int,
    observe: Observer | None = None,
) -> Completion | Failure:
    """The completion that a run with this ``seed`` has at ``place`` (prompt and sample index), or why there is none.

    Only a cancellation from outside gets through.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=place))
    try:
        return await sampler(engine, prompt, rng, observe, place=place)
    except Exception as error:
        return Failure(*place, error)
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        return Failure(*place, EngineError("the engine dropped the request"))
