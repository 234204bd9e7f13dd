"""Variants that are *not* exact, to compare with: studies show what they do, tests that checks find them.

published_matrix: the transitions of ``rule`` "published", whose states are more than the completions at a horizon.
DoubleCounted: after resampling, weights are computed over the whole trajectory again.
OpenMoves: particles move while one is open; that the moves depend on how the particles stand is enough to bias Z-hat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from powercut.samplers import SMC
from powercut.samplers.draw import Draw
from powercut.study.exact import CutSampler, Space
from powercut.target import Power, log_ratio
from powercut.trace import FloatArray, IntArray, Trace


@dataclass(frozen=True, kw_only=True)
class DoubleCounted(SMC):
    """SMC whose particles still carry, after resampling, the weights that they were drawn by."""

    def _resample(
        self, traces: Sequence[Trace], log_weights: FloatArray, target: Power, rng: np.random.Generator
    ) -> tuple[IntArray, FloatArray]:
        drawn, _ = super()._resample(traces, log_weights, target, rng)
        return drawn, np.array([target.increments(traces[i]).sum() for i in drawn])


@dataclass(frozen=True, kw_only=True)
class OpenMoves(SMC):
    """SMC whose particles move only as long as one of them is unfinished."""

    async def _move_all(
        self, draw: Draw, traces: Sequence[Trace], target: Power, stage: int, rng: np.random.Generator
    ) -> list[Trace]:
        if all(trace.finished for trace in traces):
            return list(traces)
        return await super()._move_all(draw, traces, target, stage, rng)


def published_matrix(space: Space, sampler: CutSampler) -> tuple[list[tuple[int, ...]], FloatArray]:
    """States and transition matrix of the published step, prefixes among them: its proposals end at the current length.

    Cut law and acceptance ratio are the sampler's own, whatever its ``rule``.
    """
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
            if prob == 0:
                continue
            for y in states:
                ends = by_tokens[y].finished or len(y) == len(x)
                if y[:cut] != x[:cut] or not cut < len(y) <= len(x) or not ends:
                    continue
                q = np.exp(by_tokens[y].logq[cut:].sum())
                log_accept = log_ratio(sampler.target, sampler.cut_law, trace, by_tokens[y], cut, "published")
                matrix[i, index[y]] += prob * q * np.exp(min(0.0, log_accept))
        matrix[i, i] += 1 - matrix[i].sum()
    return states, matrix
