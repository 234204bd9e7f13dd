"""Many prompts: encode them, run their chains side by side, and hand over each completion as it finishes."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from concurrent.futures import Future, wait
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np

from powercut.agreement import Agenda
from powercut.engines.protocol import Engine, KeepGoing, Request
from powercut.errors import BudgetError, EngineError, PromptError, SettingError, quoted
from powercut.prompt import Prompt, TemplateArgs
from powercut.records import Completed
from powercut.run_options import RunObserver, RunOptions, Spent, check_agree, check_match, sampler_at, spent_on
from powercut.samplers.draw import Observer
from powercut.samplers.sampler import Sampler
from powercut.text import encode_prompt
from powercut.trace import Completion, IntArray, Trace

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Failure:
    """A completion that could not be drawn, and why; the others are not affected."""

    prompt_index: int
    sample_index: int
    error: Exception


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
    agree: float | None = None,
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

    With ``agree``, such as 0.95, the completions of a prompt are no longer drawn once their answers, which the
    sampler's ``answer`` finds, agree: once the chance that the leading answer is likelier than the next is that high
    (``stats.agreement``; agreement.py). ``n`` is how many there are at most. They are judged in the order of their
    samples and yielded in it, so the same seed gives the same ones, and none is started that may not count.

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
            agree=agree,
        ),
    )


async def stream(
    engine: Engine, sampler: Sampler, prompts: Iterable[Prompt], options: RunOptions
) -> AsyncGenerator[Completion | Failure, None]:
    """``astream``, with its options in one object."""
    n, budget = options.n, options.max_total_tokens
    encoded = await _encode(engine, sampler, prompts, options)
    total = len(encoded) * n
    check_match(sampler, options, len(encoded))
    check_agree(engine, sampler, options)
    agenda = Agenda(len(encoded), n, options.agree)
    done: asyncio.Queue[Completion | Failure | None] = asyncio.Queue()
    metered = _Metered(engine)

    async def worker() -> None:
        outcome: Completion | Failure
        while (place := await agenda.next()) is not None:  # each takes the next chain when it is free
            i, j = place
            if isinstance(prompt := encoded[i], SettingError):
                outcome = Failure(i, j, prompt)
            elif budget is not None and metered.decoded >= budget:
                reason = f"not started: the {budget} tokens of max_total_tokens are spent"
                outcome = Failure(i, j, BudgetError(reason))
            else:
                observe = None if options.observe is None else functools.partial(options.observe, i, j)
                one = sampler_at(sampler, options, i, j)
                outcome = await draw_one(metered, one, prompt, place, options.seed, observe)
            answer = None
            if options.agree is not None and isinstance(outcome, Completion) and outcome.text is not None:
                try:
                    answer = sampler.find_answer(outcome.text)
                except Exception as error:  # of a user's function
                    outcome = Failure(i, j, error)
            for each in agenda.add(place, outcome, answer):
                done.put_nowait(each)

    if (concurrency := options.concurrency) is None:
        width = sampler_at(sampler, options, 0, 0).width if total else 1
        concurrency = -(-engine.concurrency // width)

    async def work() -> None:
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(concurrency, total)):
                    workers.create_task(worker())
        finally:
            done.put_nowait(None)

    working = asyncio.create_task(work())
    try:
        while (each := await done.get()) is not None:
            yield each
        await working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


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


class _Metered:
    """An engine, and the tokens that it has ``decoded`` for one run: others may use it at the same time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.decoded = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def extend(self, request: Request, keep_going: KeepGoing | None = None) -> Trace:
        trace = await self._engine.extend(request, keep_going)
        self.decoded += len(trace) - request.known
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
