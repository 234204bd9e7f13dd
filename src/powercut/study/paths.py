"""Every path that a sampler can take, with its probability: its own code, run once for each outcome of each choice.

What it draws from its generator and from the engine is chosen here in its stead. A uniform number is settled only as
far as it has been compared: each comparison has two outcomes. Sums over the paths are exact.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, overload

import numpy as np

from powercut.engines.table import TableEngine
from powercut.samplers.children import sibling
from powercut.study.exact import EOS, NextTokenProbs
from powercut.text import LocalText
from powercut.trace import FloatArray, IntArray

T = TypeVar("T")


def every_path(
    probs: NextTokenProbs,
    run: Callable[[TableEngine, np.random.Generator], Awaitable[T]],
    text: LocalText | None = None,
) -> list[tuple[float, T]]:
    """(probability, result) of each path of ``run(engine, rng)``, where the engine's model is ``probs``."""
    return asyncio.run(_walk(probs, run, text))


async def _walk(
    probs: NextTokenProbs, run: Callable[[TableEngine, np.random.Generator], Awaitable[T]], text: LocalText | None
) -> list[tuple[float, T]]:
    paths: list[tuple[float, T]] = []
    forced: tuple[int, ...] | None = ()
    while forced is not None:
        choices = _Choices(forced)
        rng: Any = ChosenGenerator(choices)  # as much of a numpy Generator as samplers use
        result = await run(_ChosenEngine(probs, choices, text), rng)
        paths.append((choices.prob, result))
        forced = choices.following()
    assert abs(math.fsum(prob for prob, _ in paths) - 1) < 1e-12
    return paths


class _Choices:
    """The outcomes of one path: those ``forced`` first, then the first one possible each time."""

    def __init__(self, forced: Sequence[int]) -> None:
        self.prob = 1.0
        self._forced = forced
        self._taken: list[tuple[int, int]] = []

    def choose(self, probs: Sequence[float] | FloatArray) -> int:
        """The index of an outcome of positive probability."""
        possible = [i for i, p in enumerate(probs) if p > 0]
        which = self._forced[len(self._taken)] if len(self._taken) < len(self._forced) else 0
        self._taken.append((which, len(possible)))
        self.prob *= float(probs[possible[which]])
        return possible[which]

    def following(self) -> tuple[int, ...] | None:
        """What to force for the next path; None after the last."""
        while self._taken and self._taken[-1][0] == self._taken[-1][1] - 1:
            self._taken.pop()
        if not self._taken:
            return None
        *before, (last, _) = self._taken
        return (*(which for which, _ in before), last + 1)


class _ChosenEngine(TableEngine):
    """A table whose tokens are chosen."""

    def __init__(self, probs: NextTokenProbs, choices: _Choices, text: LocalText | None) -> None:
        super().__init__(probs, EOS, text=text)
        self._choices = choices

    def _pick(self, logq: FloatArray, noise: object) -> int:
        return self._choices.choose(np.exp(logq[0]))


class ChosenGenerator:
    """As much of a numpy Generator as samplers use, whose numbers are chosen."""

    def __init__(self, choices: _Choices) -> None:
        self._choices = choices
        self.bit_generator = np.random.PCG64(0)  # of which nothing was spawned

    def spawn(self, count: int) -> list[ChosenGenerator]:
        """Generators of the same path."""
        return [self] * count

    def choice(self, n: int, p: FloatArray) -> int:
        """An index that has a chance."""
        return self._choices.choose(p)

    def integers(self, high: int, size: int) -> IntArray:
        """Seeds, of an engine that needs none."""
        return np.zeros(size, dtype=np.int64)

    def random(self) -> _Uniform:
        """A number from U(0, 1)."""
        return _Uniform(self._choices)

    @overload
    def standard_exponential(self) -> _Exponential: ...

    @overload
    def standard_exponential(self, size: int) -> _Clocks: ...

    def standard_exponential(self, size: int | None = None) -> _Exponential | _Clocks:
        """-log u, u from U(0, 1]; or so many clocks of the rate 1."""
        return _Exponential(_Uniform(self._choices)) if size is None else _Clocks(self._choices)


@sibling.register
def _same_path(rng: ChosenGenerator, after: int) -> ChosenGenerator:
    return rng


class _Clocks:
    """Times at which clocks ring, of which no more is asked than which rings first once each has a rate."""

    def __init__(self, choices: _Choices, rates: FloatArray | None = None) -> None:
        self._choices, self._rates = choices, rates

    def __truediv__(self, rates: FloatArray) -> _Clocks:
        return _Clocks(self._choices, rates)

    def argmin(self) -> int:
        """The first to ring."""
        assert self._rates is not None
        return self._choices.choose(self._rates / self._rates.sum())


class _Uniform:
    """A number from U(0, 1) of which no more is settled than has been asked."""

    def __init__(self, choices: _Choices) -> None:
        self._choices, self._low, self._high = choices, 0.0, 1.0

    def __lt__(self, threshold: float) -> bool:
        low, high = self._low, self._high
        if not low < threshold < high:
            return bool(threshold >= high)
        below = not self._choices.choose([(threshold - low) / (high - low), (high - threshold) / (high - low)])
        self._low, self._high = (low, threshold) if below else (threshold, high)
        return below


class _Exponential:
    """-log u; less than nothing of it is asked but whether its negative, log u, is at most a number."""

    def __init__(self, u: _Uniform) -> None:
        self._u = u

    def __neg__(self) -> _LogUniform:
        return _LogUniform(self._u)


class _LogUniform:
    """log u, which may be compared to a threshold."""

    def __init__(self, u: _Uniform) -> None:
        self._u = u

    def __le__(self, threshold: float) -> bool:
        return self._u < math.exp(min(1.0, threshold))
