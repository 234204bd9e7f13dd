"""Entropy-Cut and Uniform-Cut Metropolis-Hastings: one sampler with two cut laws.

Entropy-Cut is due to arXiv 2605.30327, uniform cuts to arXiv 2510.14901. Ours differs where theirs is not exact:
proposals run to the horizon, whole suffixes are compared, the cut law's normaliser is in the ratio, and a proposal that
is already certain to be rejected is not decoded further, which changes no chain.
"""

from __future__ import annotations

import asyncio
import math
import warnings
from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from powercut.cuts import CutLaw, EntropyJump, Uniform, Weights
from powercut.engines.base import Engine
from powercut.errors import SettingError
from powercut.samplers.base import Draw, Observer, check_number, seeds_of, setting, spawn
from powercut.samplers.kernel import Kernel
from powercut.samplers.sharpened import Sharpened
from powercut.target import Power
from powercut.trace import Completion, IntArray, Step, Trace

AUTO: Literal["auto"] = "auto"

MOST_AHEAD = 8
"""Most proposals that look-ahead ``auto`` decodes at once."""

WORTH_DRAWING = 0.2
"""``auto`` draws a proposal ahead if the chance that it will count is at least this."""


@dataclass(frozen=True, kw_only=True)
class _Cut(Sharpened):
    """Staged Metropolis-Hastings over completions: at each of ``blocks`` horizons, extend, then ``steps`` re-openings.

    Exact for p^alpha as ``steps`` grows if ``refine_finished`` is set; without it a chain that is finished at the end
    of a stage stops there, as published. At alpha = inf only gains in log p are accepted: a search for the mode.
    """

    alpha: float = setting(4.0, "Power of the target p^alpha. inf: accept only gains in log p.", at_least=1)
    steps: int = setting(10, "Metropolis-Hastings steps per stage (N).", at_least=0, whole=True)
    blocks: int = setting(
        16, "Stages; the horizon grows by max_new_tokens / blocks at each (K).", at_least=1, whole=True
    )
    uniform_mix: float = setting(
        0.0, "Share of uniform cuts mixed into the cut law, from 0 to 1.", at_least=0, at_most=1
    )
    refine_finished: bool = setting(False, "Go on refining a completion that is finished.")
    early_reject: bool = setting(True, "Stop decoding a proposal that is certain to be rejected; changes no result.")
    look_ahead: int | Literal["auto"] = setting(
        1, "Proposals decoded at once, for latency; changes no result. auto: as many as the engine has room for."
    )
    tries: int = setting(
        1, "Proposals from each cut, of which one is selected (multiple-try Metropolis).", at_least=1, whole=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tries > 1 and math.isinf(self.alpha):
            raise SettingError("tries > 1 selects in proportion to p^alpha and needs a finite alpha")
        if self.look_ahead != AUTO:
            check_number("look_ahead", self.look_ahead, 1, whole=True, otherwise=", or 'auto'")
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
    def target(self) -> Power:
        """What the chain samples, and how it proposes."""
        return Power(self.alpha, self.proposal_temperature)

    @property
    def cut_law(self) -> CutLaw:
        """Where the chain cuts."""
        return CutLaw(self.cut_weights, self.uniform_mix)

    @property
    def kernel(self) -> Kernel:
        """One step of the chain."""
        return Kernel(self.target, self.cut_law, self.early_reject, self.tries)

    @property
    def width(self) -> int:
        """The tries of a step decode at once."""
        return self.tries

    @property
    def horizons(self) -> tuple[int, ...]:
        """L_1 < ... < L_K = max_new_tokens, equal blocks up to rounding (fewer than ``blocks`` if tokens are fewer)."""
        ends = {round(k * self.max_new_tokens / self.blocks) for k in range(1, self.blocks + 1)}
        return tuple(sorted(ends - {0}))

    async def __call__(
        self, engine: Engine, prompt: IntArray, rng: np.random.Generator, observe: Observer | None = None
    ) -> Completion:
        trace = Trace.empty()
        async with Draw(self, engine, prompt, observe) as draw:
            for stage, horizon in enumerate(self.horizons):
                extension, *step_seeds = spawn(rng, 1 + self.steps)
                if not trace.finished:
                    tail = await draw.extend(trace, horizon, seeds_of(extension, 1)[0])
                    trace = trace.splice(len(trace), tail)
                    draw.show(tail, trace, stage=stage, stages=len(self.horizons))
                trace = await self._refine(draw, trace, stage, step_seeds)
                if trace.finished and not self.refine_finished:
                    break
            return await draw.complete(trace)

    async def _refine(self, draw: Draw, current: Trace, stage: int, seeds: Sequence[np.random.SeedSequence]) -> Trace:
        """The steps of one stage.

        Proposals of the next few steps decode at once from where the chain stands, and are judged in order. The first
        acceptance moves the chain; the proposals behind it left from the wrong place and are drawn again.
        """
        flying: deque[_Flight] = deque()
        judged = 0
        while judged < len(seeds):
            while len(flying) < len(seeds) - judged and self._room(draw, len(flying)):
                taken = {flight.lane for flight in flying}
                flight = _Flight(lane=min(set(range(len(taken) + 1)) - taken))
                rng = np.random.default_rng(seeds[judged + len(flying)])  # the same draws each time a step is tried
                attempt = self.kernel.step(
                    draw,
                    current,
                    self.horizons[stage],
                    rng,
                    stage=stage,
                    lane=flight.lane * self.tries,
                    wanted=flight.is_wanted,
                )
                flight.outcome = draw.start(attempt)
                flying.append(flight)
                if self.look_ahead == AUTO:
                    for _ in range(2):  # until the engine has counted this one, and those of other chains
                        await asyncio.sleep(0)
            tail, step = await flying.popleft().outcome
            judged += 1
            if step.accepted:
                current = current.splice(step.cut, tail)
                for flight in flying:
                    flight.wanted = False
                flying.clear()
            draw.show(tail, current, stage=stage, stages=len(self.horizons), step=step)
        return current

    def _room(self, draw: Draw, flying: int) -> bool:
        """Whether to decode one more proposal beside the ``flying`` ones."""
        if not flying or self.look_ahead != AUTO:
            return flying == 0 or flying < int(self.look_ahead)
        # The n-th proposal counts only if all before it are rejected; at this chance of that it is no longer worth it.
        rejection = 1 - (1 + sum(step.accepted for step in draw.steps)) / (2 + len(draw.steps))
        return flying < MOST_AHEAD and rejection**flying >= WORTH_DRAWING and draw.engine.idle > 0


@dataclass(slots=True)
class _Flight:
    """A proposal that is being decoded; no longer wanted once the chain has moved from where it left."""

    lane: int
    wanted: bool = True
    outcome: asyncio.Task[tuple[Trace, Step]] = field(init=False)

    def is_wanted(self) -> bool:
        """Whether the chain is still where the proposal left from."""
        return self.wanted


@dataclass(frozen=True, kw_only=True)
class EntropyCut(_Cut):
    """Entropy-Cut Metropolis-Hastings (arXiv 2605.30327): re-open where the next-token entropy jumps."""

    # No entropy is so large that its power overflows then.
    beta: float = setting(4.0, "Exponent of the entropy jump in the cut law.", at_least=0, at_most=100)

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
