"""Standard and low-temperature sampling: one decode, no correction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from powercut.samplers.draw import Draw, spawn
from powercut.samplers.sampler import Restricted, Sharpened
from powercut.trace import Completion, Trace


class _OneDecode(Restricted):
    async def run(self, draw: Draw, rng: np.random.Generator) -> Completion:
        """Draw one completion (see ``Sampler.run``), and others in place of those without what is required."""
        trace = await draw.grow(Trace.empty(), self.max_new_tokens, spawn(rng, 1)[0])
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
