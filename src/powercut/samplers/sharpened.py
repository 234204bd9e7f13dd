"""Samplers that draw tokens colder than the model does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from powercut.errors import SettingError
from powercut.samplers.base import Sampler, setting


@dataclass(frozen=True, kw_only=True)
class Sharpened(Sampler):
    """A power alpha, and tokens drawn at 1/alpha unless ``temperature`` says otherwise."""

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
