"""Standard and low-temperature sampling: one decode, no correction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from powercut.engines.protocol import Engine
from powercut.samplers.base import Draw, Observer, Sampler, seeds_of, spawn
from powercut.samplers.sharpened import Sharpened
from powercut.trace import Completion, IntArray, Trace


class _OneDecode(Sampler):
    async def __call__(
        self, engine: Engine, prompt: IntArray, rng: np.random.Generator, observe: Observer | None = None
    ) -> Completion:
        async with Draw(self, engine, prompt, observe) as draw:
            [seed] = seeds_of(spawn(rng, 1)[0], 1)
            trace = await draw.extend(Trace.empty(), self.max_new_tokens, seed)
            draw.show(trace, trace)
            return await draw.complete(trace)


@dataclass(frozen=True, kw_only=True)
class Standard(_OneDecode):
    """Tokens drawn from the base model as it is (temperature 1)."""

    @property
    def proposal_temperature(self) -> float:
        """Always 1."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class LowTemperature(_OneDecode, Sharpened):
    """Tokens drawn at temperature 1/alpha: sharpens each token, which is not the power distribution."""
