"""Published variants that are *not* exact, to compare with: studies show what they do, tests that checks find them.

LengthCapped: proposals are capped at the current length and only the overlap of the two suffixes is compared.
DoubleCounted: after resampling, weights are computed over the whole trajectory again.
OpenMoves: particles move while one is open; that the moves depend on how the particles stand is enough to bias Z-hat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from powercut.samplers import SMC, UniformCut
from powercut.samplers.draw import Draw, request_seeds
from powercut.samplers.kernel import Kernel
from powercut.study.exact import CutSampler, Space
from powercut.target import Power
from powercut.trace import FloatArray, Step, Trace


def capped_log_accept(target: Power, x: Trace, y: Trace, cut: int) -> float:
    """The log ratio over the overlap of the two suffixes, without the cut law."""
    n = min(len(x), len(y))
    g_x, g_y = target.increments(x[cut:n]), target.increments(y[cut:n])
    return float(g_y.sum() - g_x.sum())


@dataclass(frozen=True, kw_only=True)
class LengthCapped(UniformCut):
    """UniformCut with the capped step."""

    @property
    def kernel(self) -> Kernel:
        """The capped step."""
        return CappedKernel(self.target, self.cut_law)


@dataclass(frozen=True, slots=True)
class CappedKernel(Kernel):
    """The kernel, but that a proposal ends at the current length and is compared over the overlap."""

    async def step(
        self,
        draw: Draw,
        current: Trace,
        horizon: int,
        rng: np.random.Generator,
        *,
        stage: int = 0,
        lane: int = 0,
        is_void: Callable[[], bool] = lambda: False,
    ) -> tuple[Trace, Step]:
        """Move on from ``current``, whatever the ``horizon``."""
        cut = int(rng.choice(len(current), p=self.law.probs(current.entropy)))
        log_u = -rng.standard_exponential()
        tail = await draw.extend(current[:cut], len(current), request_seeds(rng, 1)[0])
        log_accept = capped_log_accept(self.target, current, current.splice(cut, tail), cut)
        return tail, Step(stage, cut, log_accept, log_accept >= log_u, False, len(tail))


@dataclass(frozen=True, kw_only=True)
class DoubleCounted(SMC):
    """SMC whose particles still carry, after resampling, the weights that they were drawn by."""

    def _resample(
        self, traces: Sequence[Trace], log_weights: FloatArray, target: Power, rng: np.random.Generator
    ) -> tuple[list[Trace], FloatArray]:
        drawn, _ = super()._resample(traces, log_weights, target, rng)
        return drawn, np.array([target.increments(trace).sum() for trace in drawn])


@dataclass(frozen=True, kw_only=True)
class OpenMoves(SMC):
    """SMC whose particles move only as long as one of them is unfinished."""

    async def _move_all(
        self, draw: Draw, traces: Sequence[Trace], target: Power, stage: int, rng: np.random.Generator
    ) -> list[Trace]:
        if all(trace.finished for trace in traces):
            return list(traces)
        return await super()._move_all(draw, traces, target, stage, rng)


def capped_kernel_matrix(space: Space, sampler: CutSampler) -> tuple[list[tuple[int, ...]], FloatArray]:
    """States and transition matrix of the capped step, over prefixes too: its proposals stop at the current length."""
    states = sorted({x[:n] for x in space.completions for n in range(1, len(x) + 1)})
    by_tokens: dict[tuple[int, ...], Trace] = {}
    for trace in space.traces:
        for n in range(1, len(trace) + 1):
            by_tokens[tuple(trace.tokens[:n])] = trace[:n]
    index = {x: i for i, x in enumerate(states)}
    matrix = np.zeros((len(states), len(states)))
    for i, x in enumerate(states):
        trace = by_tokens[x]
        for cut, prob in enumerate(sampler.cut_law.probs(trace.entropy)):
            for y in states:
                ends = by_tokens[y].finished or len(y) == len(x)
                if y[:cut] != x[:cut] or not cut < len(y) <= len(x) or not ends:
                    continue
                q = np.exp(by_tokens[y].logq[cut:].sum())
                accept = np.exp(min(0.0, capped_log_accept(sampler.target, trace, by_tokens[y], cut)))
                matrix[i, index[y]] += prob * q * accept
        matrix[i, i] += 1 - matrix[i].sum()
    return states, matrix
