"""What a user's type checker must understand of the installed package: mypy --strict and pyright read this file."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import powercut as pc


def law(context: tuple[int, ...]) -> Sequence[float]:
    return [0.5, 0.25, 0.25]


engine: pc.Engine = pc.TableEngine(law, eos_id=0)
loaded = assert_type(pc.load("HuggingFaceTB/SmolLM2-135M-Instruct", slots=4), pc.Engine)

samplers: list[pc.Sampler] = [
    pc.Standard(max_new_tokens=8),
    pc.LowTemperature(alpha=4),
    pc.EntropyCut(alpha=4, beta=4, steps=10, blocks=16, top_k=None, stop=("\n", 3)),
    pc.UniformCut(require=lambda text: "answer" in text),
    pc.SMC(particles=8),
    pc.PowerSMC(ramp_tokens=40),
    pc.TMC(candidates=4),
    pc.BestOfN(n=4),
    pc.Rejection(alpha=2),
]

drawn = assert_type(
    pc.sample(engine, samplers[2], [[1, 2], "text", [{"role": "user", "content": "hello"}]]), list[pc.Completion]
)
completion = drawn[0]
assert_type(completion.text, str | None)
assert_type(completion.logp, float)
assert_type(completion.finished, bool)
assert_type(completion.tokens, NDArray[np.int64])
assert_type(completion.stats, pc.Stats)
assert_type(completion.steps, tuple[pc.Step, ...])
assert_type(completion.steps[0].changed_at, int | None)
assert_type(completion.trace, pc.Trace)


async def inside_a_loop() -> None:
    assert_type(await pc.asample(engine, samplers[0], [[1]]), list[pc.Completion])
    stream = assert_type(pc.astream(engine, samplers[0], [[1]]), AsyncGenerator[pc.Completion | pc.Failure, None])
    async for outcome in stream:
        if isinstance(outcome, pc.Failure):
            assert_type(outcome.error, Exception)
    assert_type(await engine.extend(pc.Request(context=np.array([1]), max_new_tokens=4)), pc.Trace)


def observe(prompt_index: int, sample_index: int, event: pc.Event) -> None:
    assert_type(event.trace, pc.Trace)
    assert_type(event.step, pc.Step | None)


pc.sample(engine, samplers[0], [[1]], observe=observe)
error: type[ValueError] = pc.SettingError
other: type[RuntimeError] = pc.EngineError
options: dict[str, Any] = {"slots": 4}
assert_type(pc.load(None, **options), pc.Engine)
