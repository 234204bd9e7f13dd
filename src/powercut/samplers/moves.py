"""All that a chain of staged Metropolis-Hastings may do, in order, each move with randomness of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from powercut.samplers.children import Children


@dataclass(frozen=True, slots=True)
class Move:
    """An extension to ``horizon``, or a Metropolis-Hastings step at it; all its randomness comes from ``rng``."""

    stage: int
    horizon: int
    extends: bool
    rng: np.random.Generator


class Moves(Sequence[Move]):
    """All that a chain may do, in order: at each horizon an extension, then ``steps`` steps.

    Each look at a move makes it anew, with the same randomness: that of the next children of ``rng``, one a move.
    """

    def __init__(self, horizons: Sequence[int], steps: int, rng: np.random.Generator) -> None:
        self.stages = len(horizons)
        self._horizons, self._each = horizons, 1 + steps
        self._children = Children(rng, len(self))

    def __len__(self) -> int:
        return self.stages * self._each

    def left(self, at: int) -> int:
        """How many moves of its stage there are from a place on."""
        return self._each - at % self._each

    def __getitem__(self, at: Any) -> Any:
        """The move at a place, counted from 0."""
        stage, index = divmod(at, self._each)
        return Move(stage, self._horizons[stage], index == 0, self._children[at])
