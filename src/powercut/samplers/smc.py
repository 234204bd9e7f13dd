"""Sequential Monte Carlo over completions: SMC, and PowerSMC, whose power rises from 1 to alpha.

SMC for the power distribution is among the samplers that arXiv 2605.30327 compares; Power-SMC is due to arXiv
2602.10273. Ours differs from a published implementation where that counts weights twice: here they are those since the
last resampling, which makes exp(log_z) unbiased.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from powercut.cuts import CutLaw, EntropyJump
from powercut.resampling import chopthin, systematic
from powercut.samplers.children import Children
from powercut.samplers.decoding import Decoding
from powercut.samplers.draw import Draw, request_seeds, spawn
from powercut.samplers.kernel import Kernel
from powercut.samplers.sampler import Restricted, Sharpened, Targeted
from powercut.samplers.settings import check_word, setting
from powercut.target import Power, effective_sample_size, log_mean_weight, normalise
from powercut.trace import Completion, FloatArray, IntArray, Population, Step, Trace

Resampling = Literal["systematic", "chopthin"]


@dataclass(frozen=True, slots=True)
class Particles:
    """Weighted completions: ``log_weights`` ``[n]`` (nats, up to a common factor), ``log_z`` and the ESS so far."""

    traces: tuple[Trace, ...]
    log_weights: FloatArray
    log_z: float
    ess: tuple[float, ...]

    @property
    def lost(self) -> bool:
        """Whether all weights are 0."""
        return bool(np.isneginf(self.log_weights).all())


@dataclass(frozen=True, kw_only=True)
class _ParticleSampler(Restricted, Targeted):
    """Particles that grow block by block and are resampled by weight; one of them, drawn by weight, is returned.

    Exact for its target as ``particles`` grows; one without what is required weighs nothing, and if none has it, log Z
    is -inf and any is returned. A particle that is finished keeps its weight and costs nothing more.
    ``moves`` Entropy-Cut Metropolis-Hastings steps of every particle follow each block, at its horizon and power. They
    leave what the particles stand for as it is and make equal ones differ (resample-move, Gilks and Berzuini 2001).
    They come resampled or not, finished or not: moves that depended on how the particles stand would bias ``log_z``. At
    the end only the particle that is returned moves: the others would move in vain.
    """

    particles: int = setting(64, "Completions grown side by side.", at_least=1, whole=True)
    block_size: int = setting(32, "Tokens drawn between two weighings.", at_least=1, whole=True)
    ess_threshold: float = setting(
        0.5, "Resample when the effective sample size falls below this share of the particles.", at_least=0, at_most=1
    )
    resampling: Resampling = setting(
        "systematic", "systematic gives all the same weight; chopthin bounds the largest over the smallest by 5.8."
    )
    moves: int = setting(
        0, "Entropy-Cut steps of each particle after every block, and of the one returned.", at_least=0, whole=True
    )
    skip_repeats: bool = setting(
        True, "Do not decode what a proposal repeats of the current text: the same law for fewer tokens."
    )
    beta: float = setting(4.0, "Exponent of the entropy jump in the cut law.", at_least=0, at_most=100)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("resampling", self.resampling, Resampling)

    @property
    def width(self) -> int:
        """All particles grow at once."""
        return self.particles

    @property
    def horizons(self) -> tuple[int, ...]:
        """Where blocks end; the last is max_new_tokens."""
        return (*range(self.block_size, self.max_new_tokens, self.block_size), self.max_new_tokens)

    @property
    def decoding(self) -> Decoding:
        """How tokens are drawn, as the engine is asked for them, with the laws that skipping repeats needs."""
        return replace(super().decoding, rows=self.skip_repeats and self.moves > 0)

    @abstractmethod
    def target_at(self, horizon: int) -> Power:
        """The power at the end of a block, and the temperature at which its tokens are drawn."""

    async def run(self, draw: Draw, rng: np.random.Generator) -> Completion:
        """Draw one completion (see ``Sampler.run``)."""
        particles = await self.weigh(draw, rng)
        picker, mover = spawn(spawn(rng, 1)[0], 2)
        shares = np.zeros(self.particles) if particles.lost else particles.log_weights
        trace = particles.traces[int(picker.choice(self.particles, p=normalise(shares)))]
        target, stage = self.target, len(self.horizons) - 1
        async for tail, moved, step in self._moves(draw, trace, target, stage, mover):
            draw.show(tail, moved, stage=stage, stages=len(self.horizons), step=step)
            trace = moved
        return await draw.complete(trace, log_z=particles.log_z, ess=particles.ess)

    async def weigh(self, draw: Draw, rng: np.random.Generator) -> Particles:
        """Grow all particles to their end; weights are those since the last resampling, and ``log_z`` is complete."""
        traces = [Trace.empty()] * self.particles
        log_weights, parents = np.zeros(self.particles), np.arange(self.particles)
        log_z, power, ess = 0.0, 0.0, []
        for stage, horizon in enumerate(self.horizons):
            grower, resampler, mover = spawn(spawn(rng, 1)[0], 3)
            target = self.target_at(horizon)
            growing = [i for i, trace in enumerate(traces) if not trace.finished]
            seeds = request_seeds(grower, self.particles)
            tails = await draw.together(draw.extend(traces[i], horizon, seeds[i], lane=i) for i in growing)
            # What came before counts again only as far as the power has grown since.
            log_weights += (target.alpha - power) * _logp(traces)
            power = target.alpha
            for i, tail in zip(growing, tails, strict=True):
                log_weights[i] += target.increments(tail).sum()
                traces[i] = traces[i].splice(len(traces[i]), tail)
                if not await draw.fits(traces[i]):
                    log_weights[i] = -np.inf
            lost = bool(np.isneginf(log_weights).all())
            done = (
                horizon == self.max_new_tokens or (not self.moves and all(trace.finished for trace in traces)) or lost
            )
            if done:
                log_weights += (self.alpha - power) * _logp(traces)
            ess.append(0.0 if lost else effective_sample_size(log_weights))
            population = Population(tuple(traces), log_weights.copy(), parents)
            self._show(draw, population, dict(zip(growing, tails, strict=True)), stage)
            if done:
                break
            if ess[-1] < self.ess_threshold * self.particles:
                log_z += log_mean_weight(log_weights)
                parents, log_weights = self._resample(traces, log_weights, target, resampler)
                traces = [traces[i] for i in parents]
            else:
                parents = np.arange(self.particles)
            traces = await self._move_all(draw, traces, target, stage, mover)
        return Particles(tuple(traces), log_weights, log_z + log_mean_weight(log_weights), tuple(ess))

    def _resample(
        self, traces: Sequence[Trace], log_weights: FloatArray, target: Power, rng: np.random.Generator
    ) -> tuple[IntArray, FloatArray]:
        """Which of ``traces`` are drawn by weight, and their weights from here on: in units of the mean one before."""
        shares, u = normalise(log_weights), rng.random()
        if self.resampling == "chopthin":
            drawn, weights = chopthin(shares, u)
            return drawn, np.log(self.particles * weights)
        return systematic(shares, u), np.zeros(self.particles)

    async def _move_all(
        self, draw: Draw, traces: Sequence[Trace], target: Power, stage: int, rng: np.random.Generator
    ) -> list[Trace]:
        """Where the particles stand after their moves at the end of a block."""

        async def move(i: int, own: np.random.Generator) -> list[tuple[Trace, Trace, Step]]:
            return [moved async for moved in self._moves(draw, traces[i], target, stage, own, lane=i)]

        moved_to = list(traces)
        paths = await draw.together(move(i, own) for i, own in enumerate(spawn(rng, self.particles)))
        for i, path in enumerate(paths):  # in the particles' order, whichever was done first
            for tail, moved, step in path:
                draw.show(tail, moved, stage=stage, stages=len(self.horizons), step=step)
                moved_to[i] = moved
        return moved_to

    async def _moves(
        self, draw: Draw, trace: Trace, target: Power, stage: int, rng: np.random.Generator, *, lane: int = 0
    ) -> AsyncIterator[tuple[Trace, Trace, Step]]:
        """The steps of a particle at the end of a block: the proposal's tail, where the particle stands, the step."""
        kernel = Kernel(target, CutLaw(EntropyJump(self.beta)), skip_repeats=self.skip_repeats)
        at, children = 0, Children(rng, self.moves)
        while at < self.moves:
            own = children[at]
            nulls = kernel.nulls(trace, self.moves - at, own)
            draw.nulls += nulls
            if at + nulls == self.moves:
                break
            horizon = self.horizons[stage]
            tail, step = await kernel.step(draw, trace, horizon, own, differs=True, stage=stage, lane=lane)
            trace = trace.splice(step.cut, tail) if step.accepted else trace
            yield tail, trace, replace(step, nulls=nulls)
            at += nulls + 1

    def _show(self, draw: Draw, population: Population, tails: dict[int, Trace], stage: int) -> None:
        """Show the heaviest of the particles that grew, or of all if none did, and all of them."""
        heaviest = max(tails or range(self.particles), key=lambda i: population.log_weights[i])
        tail, trace = tails.get(heaviest, Trace.empty()), population.traces[heaviest]
        draw.show(tail, trace, stage=stage, stages=len(self.horizons), population=population)


def _logp(traces: Sequence[Trace]) -> FloatArray:
    """log p of each, in nats."""
    return np.array([trace.logp.sum() for trace in traces])


@dataclass(frozen=True, kw_only=True)
class SMC(_ParticleSampler, Sharpened):
    """Sequential Monte Carlo with p^alpha as the target after every block (as compared in arXiv 2605.30327)."""

    def target_at(self, horizon: int) -> Power:
        """The same everywhere."""
        return self.target


@dataclass(frozen=True, kw_only=True)
class PowerSMC(_ParticleSampler):
    """Power-SMC (arXiv 2602.10273): the power rises from 1 to alpha over the first ``ramp_tokens`` tokens.

    Token t is drawn at temperature 1/alpha_t. An engine draws a whole request at one temperature, so the ramp is
    quantised to blocks: a block's power is that of its last token. ``block_size`` 1 is the algorithm token by token, as
    published, on any engine. Weights stay exact either way: a block multiplies them by p(x)^alpha_k at its end over
    p(x)^alpha_(k-1) at its start, and by 1/q; finished particles follow the ramp, and catch up with alpha at the end.
    """

    ramp_tokens: int = setting(
        400, "Tokens over which the power rises from 1 to alpha (0: alpha from the start).", at_least=0, whole=True
    )

    @property
    def proposal_temperature(self) -> float:
        """1/alpha, where the ramp ends."""
        return 1 / self.alpha

    def target_at(self, horizon: int) -> Power:
        """alpha_t of a block's last token, proposed from at 1/alpha_t."""
        share = min(1.0, horizon / self.ramp_tokens) if self.ramp_tokens else 1.0
        power = self.alpha if share == 1 else 1 + (self.alpha - 1) * share
        return Power(power, 1 / power, self.length_bonus)

    @property
    def legs(self) -> tuple[tuple[int, float], ...]:
        """Each token at its own block's temperature, in moves too: the reverse of a proposal is drawn like it."""
        return tuple((end, self.target_at(end).temperature) for end in self.horizons)


__all__ = ["SMC", "Particles", "PowerSMC"]
