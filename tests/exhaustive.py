"""Every path that a sampler can take, with its probability: its own code, run once for each outcome of each choice.

What it draws from generators and from the engine is chosen here in its stead. A uniform number that is compared to a
threshold has two outcomes; one that resamples, as many as there are results. Sums over the paths are exact.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import TypeVar
from unittest import mock

import numpy as np

from powercut import TableEngine, Trace
from powercut.samplers import kernel, smc
from powercut.target import systematic
from tests.enumeration import EOS, NextTokenProbs

T = TypeVar("T")


def every_path(
    probs: NextTokenProbs, run: Callable[[TableEngine, np.random.Generator], Awaitable[T]]
) -> list[tuple[float, T]]:
    """(probability, result) of each path of ``run(engine, rng)``, where the engine's model is ``probs``."""
    return asyncio.run(_walk(probs, run))


async def _walk(probs, run):
    engine, paths, forced = _Engine(probs), [], ()
    with contextlib.ExitStack() as patches:
        for change in (
            mock.patch.object(np.random, "default_rng", lambda seed: _Generator(engine.choices, seed)),
            mock.patch.object(kernel, "math", SimpleNamespace(**vars(math) | {"log1p": _log1p})),
            mock.patch.object(smc, "systematic", lambda weights, u: systematic(weights, u.within(weights))),
        ):
            patches.enter_context(change)
        while forced is not None:
            engine.choices = _Choices(forced)
            rng = _Generator(engine.choices, np.random.SeedSequence(0))
            result = await run(engine, rng)
            paths.append((engine.choices.prob, result))
            forced = engine.choices.following()
    assert abs(math.fsum(prob for prob, _ in paths) - 1) < 1e-12
    return paths


class _Choices:
    """The outcomes of one path: those ``forced`` first, then the first one possible each time."""

    def __init__(self, forced: Sequence[int]) -> None:
        self.prob = 1.0
        self._forced, self._taken = forced, []

    def choose(self, probs: Sequence[float]) -> int:
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


class _Engine(TableEngine):
    """A table whose tokens are chosen."""

    choices: _Choices

    def __init__(self, probs: NextTokenProbs) -> None:
        super().__init__(probs, EOS)

    async def extend(self, request, keep_going=None):
        context, pieces = tuple(request.context.tolist()), []
        while True:
            tokens, law = self._law(context, request.temperature, request.top_k)
            i = self.choices.choose(np.exp(law.logq[0]))
            token = int(tokens[i])
            piece = Trace([token], law.logp[0, [i]], law.logq[0, [i]], law.entropy, finished=token in self.stop_tokens)
            pieces.append(piece)
            context += (token,)
            going = keep_going is None or keep_going(piece)
            if piece.finished or len(pieces) == request.max_new_tokens or not going:
                return Trace.join(pieces)
            await asyncio.sleep(0)


class _Generator:
    """As much of a numpy Generator as samplers use."""

    def __init__(self, choices: _Choices, seeds: np.random.SeedSequence) -> None:
        self._choices = choices
        self.bit_generator = SimpleNamespace(seed_seq=seeds)

    def choice(self, n, p):
        return self._choices.choose(p)

    def integers(self, high, size):
        return np.zeros(size, dtype=np.int64)  # seeds, of an engine that needs none

    def random(self):
        return _Uniform(self._choices)


class _Uniform:
    """A number from U(0, 1) of which no more is settled than has been asked."""

    def __init__(self, choices: _Choices) -> None:
        self._choices, self._low, self._high = choices, 0.0, 1.0

    def within(self, weights: np.ndarray) -> float:
        """The middle of one of the intervals of u over which systematic resampling gives the same particles."""
        edges = np.unique([0.0, *(len(weights) * np.cumsum(weights)) % 1, 1.0])
        which = self._choices.choose(np.diff(edges))
        return float(edges[which : which + 2].mean())

    def __neg__(self):
        return self

    def below(self, threshold: float) -> bool:
        low, high = self._low, self._high
        if not low < threshold < high:
            return threshold >= high
        if self._choices.choose([threshold - low, high - threshold]):
            self._low = threshold
            self._choices.prob /= high - low
            return False
        self._high = threshold
        self._choices.prob /= high - low
        return True


def _log1p(minus_u):
    return _LogUniform(minus_u)


class _LogUniform:
    """log(1 - u), which may be compared, less a number, to a threshold."""

    def __init__(self, u: _Uniform, less: float = 0.0) -> None:
        self._u, self._less = u, less

    def __sub__(self, less: float) -> _LogUniform:
        return _LogUniform(self._u, self._less + less)

    def __le__(self, threshold: float) -> bool:
        return self._u.below(math.exp(min(1.0, threshold + self._less)))

    def __gt__(self, threshold: float) -> bool:
        return not self <= threshold
