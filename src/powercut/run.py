"""Many prompts: encode them, run their chains side by side, and hand over each completion as it finishes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from powercut.engines.protocol import Engine
from powercut.errors import BudgetError, EngineError, SettingError
from powercut.samplers.base import Sampler
from powercut.text import Prompt, completion_text, encode_prompt
from powercut.trace import Completion, Event, IntArray

RunObserver = Callable[[int, int, Event], None]
"""Called with the prompt index, the sample index and the event."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """A completion that could not be drawn, and why; the others are not affected."""

    prompt_index: int
    sample_index: int
    error: Exception


async def astream(
    engine: Engine,
    sampler: Sampler,
    prompts: Iterable[Prompt],
    *,
    n: int = 1,
    seed: int = 0,
    chat: bool | None = None,
    system: str | None = None,
    observe: RunObserver | None = None,
    concurrency: int | None = None,
    max_total_tokens: int | None = None,
) -> AsyncGenerator[Completion | Failure, None]:
    """Draw ``n`` completions of each prompt and yield each as soon as it is done, in any order.

    At most ``concurrency`` chains (None: as many as keep the engine full) run side by side; the rest
    wait their turn in order, and no chain waits for another otherwise. Once the engine has decoded
    ``max_total_tokens`` tokens no further chain starts: those running end in their own time, the others fail with
    BudgetError. Sample j of prompt i depends on ``(seed, i, j)`` alone. ``chat`` None puts a string into the model's
    chat template if it has one, True insists on it, False never does; ``system`` is the system message. Closing the
    iterator cancels what is still running.

    Raises SettingError, before anything is sampled, if a prompt or a setting cannot be used.
    """
    _check_whole("n", n, 1)
    _check_whole("seed", seed, 0)
    for name, value in (("concurrency", concurrency), ("max_total_tokens", max_total_tokens)):
        if value is not None:
            _check_whole(name, value, 1)
    encoded = _encode(engine, sampler, prompts, chat, system)
    samplers = {(i, j): sampler.for_sample(i, j) for i in range(len(encoded)) for j in range(n)}
    work = iter(samplers)
    done: asyncio.Queue[Completion | Failure] = asyncio.Queue()
    spent_before = engine.usage.decoded

    async def worker() -> None:
        for i, j in work:  # one iterator shared by all workers: each takes the next chain when it is free
            if max_total_tokens is not None and engine.usage.decoded - spent_before >= max_total_tokens:
                reason = f"not started: the {max_total_tokens} tokens of max_total_tokens are spent"
                done.put_nowait(Failure(i, j, BudgetError(reason)))
            else:
                done.put_nowait(await _draw_one(engine, samplers[i, j], encoded[i], seed, i, j, observe))

    total = len(encoded) * n
    chains = -(-engine.concurrency // sampler.width) if concurrency is None else concurrency
    workers = [asyncio.create_task(worker()) for _ in range(min(chains, total))]
    try:
        for _ in range(total):
            yield await done.get()
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def asample(
    engine: Engine,
    sampler: Sampler,
    prompts: Iterable[Prompt],
    *,
    n: int = 1,
    seed: int = 0,
    chat: bool | None = None,
    system: str | None = None,
    observe: RunObserver | None = None,
    concurrency: int | None = None,
    max_total_tokens: int | None = None,
) -> list[Completion]:
    """``sample``, inside an event loop."""
    completions: list[Completion] = []
    stream = astream(
        engine,
        sampler,
        prompts,
        n=n,
        seed=seed,
        chat=chat,
        system=system,
        observe=observe,
        concurrency=concurrency,
        max_total_tokens=max_total_tokens,
    )
    try:
        async for outcome in stream:
            if isinstance(outcome, Failure):
                raise outcome.error
            completions.append(outcome)
    finally:
        await stream.aclose()
    return sorted(completions, key=lambda c: (c.prompt_index, c.sample_index))


def sample(
    engine: Engine,
    sampler: Sampler,
    prompts: Iterable[Prompt],
    *,
    n: int = 1,
    seed: int = 0,
    chat: bool | None = None,
    system: str | None = None,
    observe: RunObserver | None = None,
    concurrency: int | None = None,
    max_total_tokens: int | None = None,
) -> list[Completion]:
    """Draw ``n`` completions of each prompt; returns them prompt by prompt.

    A prompt is a string, a list of chat messages, or a sequence of token ids. The same ``seed`` gives the same
    completions; sample j of prompt i does not depend on how many others there are. ``chat`` None puts a string into
    the model's chat template if it has one, True insists on it, False never does; ``system`` is the system message.
    ``observe(prompt_index, sample_index, event)`` is called as the chains move; ``concurrency`` and
    ``max_total_tokens`` bound the chains at once and the tokens decoded, as for ``astream``. Works inside a running
    event loop too (a notebook), in a thread of its own.

    Raises SettingError, before anything is sampled, if a prompt or a setting cannot be used, and the first
    EngineError if decoding fails. ``astream`` keeps the other completions then.
    """
    return run(
        asample(
            engine,
            sampler,
            prompts,
            n=n,
            seed=seed,
            chat=chat,
            system=system,
            observe=observe,
            concurrency=concurrency,
            max_total_tokens=max_total_tokens,
        )
    )


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, whether or not an event loop is running in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: list[T] = []
    failure: list[BaseException] = []

    def in_thread() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=in_thread, name="powercut")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise SettingError(f"{name} must be a whole number of at least {least} (got {value!r})")


def _encode(
    engine: Engine, sampler: Sampler, prompts: Iterable[Prompt], chat: bool | None, system: str | None
) -> list[IntArray]:
    """Every prompt as token ids, checked against the engine for the longest request that can arise."""
    if isinstance(prompts, str):
        raise SettingError("prompts must be a list of prompts: put the string into a list")
    encoded = []
    for i, prompt in enumerate(prompts):
        try:
            tokens = np.array(encode_prompt(engine.text, prompt, chat=chat, system=system), dtype=np.int64)
            engine.check(sampler.request(tokens, horizon=sampler.max_new_tokens))
        except SettingError as error:
            raise SettingError(f"prompt {i}: {error}") from error
        encoded.append(tokens)
    return encoded


async def _draw_one(
    engine: Engine, sampler: Sampler, prompt: IntArray, seed: int, i: int, j: int, observe: RunObserver | None
) -> Completion | Failure:
    """One completion with its text, or why there is none. Only a cancellation from outside gets through."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(i, j)))
    try:
        completion = await sampler(engine, prompt, rng, None if observe is None else lambda event: observe(i, j, event))
        text = None
        if engine.text is not None:
            text = completion_text(engine.text, completion.tokens.tolist(), sampler.stop)
        return replace(completion, text=text, prompt_index=i, sample_index=j)
    except Exception as error:
        return Failure(i, j, error)
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        return Failure(i, j, EngineError("the engine dropped the request"))
