"""How fast an engine decodes a task, and how long its completions are: what an estimate of a run needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from powercut.engines.protocol import Engine
from powercut.prompt import Prompt, TemplateArgs
from powercut.run import Failure, astream
from powercut.samplers import Sampler
from powercut.trace import Completion


@dataclass(frozen=True, slots=True)
class Measured:
    """Tokens decoded a second by a full engine, and the mean length of completions in tokens."""

    tokens_per_second: float
    length: float


async def measure(
    engine: Engine,
    sampler: Sampler,
    prompts: Sequence[Prompt],
    *,
    chat: bool,
    template_args: TemplateArgs | None = None,
    seconds: float,
) -> Measured:
    """Draw completions of ``prompts``, as often as it takes to fill the engine, for ``seconds`` and measure.

    The length is the tokens decoded over the completions that ended, which counts long ones that have not ended yet.
    Raises what the first failure of a completion raises.
    """
    start, before, ended = time.perf_counter(), engine.usage.decoded, 0
    try:
        often = -(-2 * engine.concurrency // len(prompts))
        drawn = astream(engine, sampler, prompts, n=often, chat=chat, template_args=template_args)
        async with asyncio.timeout(seconds), aclosing(drawn) as completions:
            async for each in completions:
                if isinstance(each, Failure):
                    raise each.error
                ended += isinstance(each, Completion)
    except TimeoutError:
        pass
    decoded = engine.usage.decoded - before
    length = min(decoded / max(1, ended), sampler.max_new_tokens)
    return Measured(decoded / (time.perf_counter() - start), length)
