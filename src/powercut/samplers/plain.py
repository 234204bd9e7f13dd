"""Standard and low-temperature sampling: one decode, no correction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from powercut.engines.base import Engine
from powercut.errors import SettingError
from powercut.samplers.base import Draw, Observer, Sampler, seeds_of, setting, spawn
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
class LowTemperature(_OneDecode):
    """Tokens drawn at temperature 1/alpha: sharpens each token, which is not the power distribution."""

    alpha: float = setting(4.0, "Power of the target p^alpha.", at_least=1)
    temperature: float | None = setting(None, "Temperature at which tokens are drawn. None: 1/alpha.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature(self.alpha, self.temperature)

    @property
    def proposal_temperature(self) -> float:
        """``temperature``, or 1/alpha."""
        return 1 / self.alpha if self.temperature is None else self.temperature


def check_temperature(alpha: float, temperature: float | None) -> None:
    """Raise SettingError unless ``temperature``, or 1/alpha in its place, can be sampled at."""
    if temperature is None:
        if alpha == float("inf"):
            raise SettingError("alpha = inf needs a temperature to propose at: give one, such as temperature 0.25")
    elif (
        isinstance(temperature, bool)
        or not isinstance(temperature, int | float | np.number)
        or not 0 < temperature < float("inf")
    ):
        raise SettingError(f"temperature must be a positive number, or None for 1/alpha (got {temperature!r})")
