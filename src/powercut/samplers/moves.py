"""All that a chain of staged Metropolis-Hastings may do, in order, each move with randomness of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from powercut.samplers.draw import spawn


@dataclass(frozen=True, slots=True)
class Move:
    """An extension to ``horizon``, or a Metropolis-Hastings step at it; all its randomness comes from ``rng``."""

    stage: int
    horizon: int
    extends: bool
    rng: np.random.Generator


class Moves(Sequence[Move]):
    """All that a chain may do, in order: at each horizon an extension, then ``steps`` steps.

    A stage's generators, the next children of ``rng``, are made when one of its moves is first looked at.
    """

    def __init__(self, horizons: Sequence[int], steps: int, rng: np.random.Generator) -> None:
        self.stages = len(horizons)
        self._horizons, self._each, self._rng = horizons, 1 + steps, rng
        self._spawned: list[list[np.random.Generator]] = []

    def __len__(self) -> int:
        return self.stages * self._each

    def left(self, at: int) -> int:
        """How many moves of its stage there are from a place on."""
        return self._each - at % self._each

    def __getitem__(self, at: Any) -> Any:
        """The move at a place, counted from 0."""
        stage, index = divmod(at, self._each)
        while len(self._spawned) <= stage:
            self._spawned.append(spawn(self._rng, self._each))
        return Move(stage, self._horizons[stage], index == 0, self._spawned[stage][index])
