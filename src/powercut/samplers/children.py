"""The children of a generator's seed: the randomness of a chain's moves, however many it may make."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np

from powercut.errors import SettingError
from powercut.samplers.draw import spawn


class Children(Sequence[np.random.Generator]):
    """The next ``count`` children of a generator's seed: those of ``spawn``, made when they are looked at.

    Each look makes a child anew, as it is before anything is drawn from it. The generator takes note of the first one
    only: what is spawned from it afterwards may be among these (``check_unused``).
    """

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        [self._first], self._count = spawn(rng, 1), count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: Any) -> Any:
        """The child at a place, counted from 0."""
        if not 0 <= at < self._count:
            raise IndexError(at)
        return sibling(self._first, at)


@singledispatch
def sibling(rng: Any, after: int) -> Any:
    """The generator that is spawned so many children ``after`` this one."""
    bits = rng.bit_generator
    *family, own = bits.seed_seq.spawn_key
    key, size = (*family, own + after), bits.seed_seq.pool_size
    return type(rng)(type(bits)(np.random.SeedSequence(bits.seed_seq.entropy, spawn_key=key, pool_size=size)))


def check_unused(rng: np.random.Generator) -> None:
    """Raise SettingError for a generator that was spawned from: what it gives now may repeat what it gave."""
    if getattr(rng.bit_generator.seed_seq, "n_children_spawned", 0):
        raise SettingError("rng was used before: give each completion a generator of its own, as rng.spawn(n) makes n")
