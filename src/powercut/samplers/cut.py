"""Entropy-Cut and Uniform-Cut Metropolis-Hastings: one sampler with two cut laws.

Entropy-Cut is due to arXiv 2605.30327, uniform cuts to arXiv 2510.14901. Ours differs where theirs is not exact:
proposals run to the horizon, whole suffixes are compared, the cut law's normaliser is in the ratio, and a proposal that
is already certain to be rejected is not decoded further, which changes no chain.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from powercut.cuts import CutLaw, EntropyJump, Uniform, Weights
from powercut.engines.base import Engine
from powercut.errors import SettingError
from powercut.samplers.base import Draw, Observer, Sampler, setting
from powercut.samplers.plain import check_temperature
from powercut.target import LogRatio, Power
from powercut.trace import Completion, IntArray, Step, Trace


@dataclass(frozen=True, kw_only=True)
class _Cut(Sampler):
    """Staged Metropolis-Hastings over completions: at each of ``blocks`` horizons, extend, then ``steps`` re-openings.

    Exact for p^alpha as ``steps`` grows if ``refine_finished`` is set; without it a chain that is finished at the end
    of a stage stops there, as published. At alpha = inf only gains in log p are accepted: a search for the mode.
    """

    alpha: float = setting(4.0, "Power of the target p^alpha (inf: accept only gains in log p).", at_least=1)
    steps: int = setting(10, "Metropolis-Hastings steps per stage (N).", at_least=0, whole=True)
    blocks: int = setting(16, "Stages; the horizon grows by max_new_tokens/blocks at each (K).", at_least=1, whole=True)
    temperature: float | None = setting(None, "Temperature of the proposal (None: 1/alpha).")
    uniform_mix: float = setting(0.0, "Share of uniform cuts mixed into the cut law, from 0 to 1.", at_least=0)
    refine_finished: bool = setting(False, "Go on refining a completion that is finished.")
    early_reject: bool = setting(True, "Stop decoding a proposal that is certain to be rejected; changes no result.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature(self.alpha, self.temperature)
        if self.uniform_mix > 1:
            raise SettingError(f"uniform_mix must be at most 1 (got {self.uniform_mix!r})")
        if self.max_new_tokens % self.blocks:
            warnings.warn(
                f"blocks={self.blocks} does not divide max_new_tokens={self.max_new_tokens}: "
                f"horizons are rounded to {_spell(self.horizons)}",
                stacklevel=3,
            )

    @property
    @abstractmethod
    def cut_weights(self) -> Weights:
        """The weights of the cut law."""

    @property
    def proposal_temperature(self) -> float:
        """``temperature``, or 1/alpha."""
        return 1 / self.alpha if self.temperature is None else self.temperature

    @property
    def target(self) -> Power:
        """What the chain samples, and how it proposes."""
        return Power(self.alpha, self.proposal_temperature)

    @property
    def cut_law(self) -> CutLaw:
        """Where the chain cuts."""
        return CutLaw(self.cut_weights, self.uniform_mix)

    @property
    def horizons(self) -> tuple[int, ...]:
        """L_1 < ... < L_K = max_new_tokens, equal blocks up to rounding (fewer than ``blocks`` if tokens are fewer)."""
        ends = {round(k * self.max_new_tokens / self.blocks) for k in range(1, self.blocks + 1)}
        return tuple(sorted(ends - {0}))

    async def __call__(
        self, engine: Engine, prompt: IntArray, rng: np.random.Generator, observe: Observer | None = None
    ) -> Completion:
        draw = Draw(self, engine, prompt, observe)
        trace = Trace.empty()
        for stage, horizon in enumerate(self.horizons):
            extension_rng, *step_rngs = rng.spawn(1 + self.steps)
            if not trace.finished:
                tail = await draw.extend(trace, horizon, extension_rng)
                trace = trace.splice(len(trace), tail)
                draw.show(tail, trace, stage=stage, stages=len(self.horizons))
            for step_rng in step_rngs:
                tail, step = await self._step(draw, trace, stage, horizon, step_rng)
                if step.accepted:
                    trace = trace.splice(step.cut, tail)
                draw.show(tail, trace, stage=stage, stages=len(self.horizons), step=step)
            if trace.finished and not self.refine_finished:
                break
        return draw.complete(trace)

    async def _step(
        self, draw: Draw, current: Trace, stage: int, horizon: int, rng: np.random.Generator
    ) -> tuple[Trace, Step]:
        """One step of the kernel at ``horizon``: the proposal's tail, and what became of it."""
        cut = int(rng.choice(len(current), p=self.cut_law.probs(current.entropy)))
        # At alpha = inf a proposal must gain: A > 0 is A >= the smallest positive number.
        log_u = math.log1p(-rng.random()) if math.isfinite(self.alpha) else math.ulp(0.0)
        ratio = LogRatio(self.target, self.cut_law, current, cut)
        early_reject = self.early_reject and self.target.monotone
        whole = False

        def may_pass(piece: Trace) -> bool:
            nonlocal whole
            ratio.add(piece)
            whole = piece.finished or cut + ratio.length == horizon
            return ratio.value >= log_u or not (whole or early_reject)

        tail = await draw.extend(current[:cut], horizon, rng, may_pass)
        return tail, Step(stage, cut, ratio.value, whole and ratio.value >= log_u, not whole, len(tail))


@dataclass(frozen=True, kw_only=True)
class EntropyCut(_Cut):
    """Entropy-Cut Metropolis-Hastings (arXiv 2605.30327): re-open where the next-token entropy jumps."""

    beta: float = setting(4.0, "Exponent of the entropy jump in the cut law.", at_least=0)

    @property
    def cut_weights(self) -> Weights:
        """w_c = max(0, H_c - H_{c-1})^beta."""
        return EntropyJump(self.beta)


@dataclass(frozen=True, kw_only=True)
class UniformCut(_Cut):
    """Metropolis-Hastings with cuts at uniform positions (the moves of arXiv 2510.14901, with an exact ratio)."""

    @property
    def cut_weights(self) -> Weights:
        """w_c = 1."""
        return Uniform()


def _spell(horizons: tuple[int, ...]) -> str:
    shown = [str(h) for h in horizons]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "...", shown[-1]])
