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
from powercut.engines.protocol import Engine
from powercut.errors import SettingError
from powercut.samplers.base import Draw, Observer, check_number, seeds_of, setting, spawn
from powercut.samplers.kernel import Kernel
from powercut.samplers.sharpened import Sharpened
from powercut.target import Power
from powercut.trace import Completion, IntArray, Step, Trace

AUTO: Literal["auto"] = "auto"

MOST_AHEAD = 8
"""Most proposals that look-ahead ``auto`` decodes at once."""

WORTH_DRAWING = 0.1
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
        current, moves, at = Trace.empty(), self._moves(rng), 0
        flying: deque[_Flight] = deque()
        async with Draw(self, engine, prompt, observe) as draw:
            # The next few moves decode at once from where the chain stands, and are judged in order. The first that
            # moves the chain makes the ones behind it void: they left from the wrong place and are drawn again.
            while (at := self._next(moves, at, current)) < len(moves):
                await self._launch(draw, current, moves, at, flying)
                flight = flying.popleft()
                tail, step = await flight.outcome
                at = flight.at + 1
                if step is None or step.accepted:
                    current = current.splice(len(current) if step is None else step.cut, tail)
                    for void in flying:
                        void.wanted = False
                    flying.clear()
                draw.show(tail, current, stage=flight.move.stage, stages=len(self.horizons), step=step)
            return await draw.complete(current)

    def _moves(self, rng: np.random.Generator) -> list[_Move]:
        """All that the chain may do, in order: in each stage an extension, then the steps."""
        return [
            _Move(stage, index == 0, seed)
            for stage in range(len(self.horizons))
            for index, seed in enumerate(spawn(rng, 1 + self.steps))
        ]

    def _next(self, moves: Sequence[_Move], at: int, current: Trace) -> int:
        """The first move from ``at`` on that can be made; what is finished is not extended, and maybe not refined."""
        while at < len(moves) and moves[at].extends and current.finished:
            at = at + 1 if self.refine_finished else len(moves)
        return at

    async def _launch(
        self, draw: Draw, current: Trace, moves: Sequence[_Move], at: int, flying: deque[_Flight]
    ) -> None:
        """Decode as many moves from ``at`` on as there is room for, beside those that are ``flying`` already."""
        while not (flying and flying[-1].move.extends):  # nobody knows from where the chain goes on after an extension
            at = self._next(moves, flying[-1].at + 1 if flying else at, current)
            if at == len(moves) or not self._room(draw, len(flying)):
                break
            lane = min(set(range(len(flying) + 1)) - {flight.lane for flight in flying})
            flight = _Flight(at, moves[at], lane, ahead=bool(flying))
            flight.outcome = draw.start(self._make(draw, current, flight))
            flying.append(flight)
            if self.look_ahead == AUTO:
                for _ in range(2):  # until the engine has counted this one, and those of other chains
                    await asyncio.sleep(0)

    async def _make(self, draw: Draw, current: Trace, flight: _Flight) -> tuple[Trace, Step | None]:
        """The tail that a move draws from ``current`` on, and what became of it (None for an extension)."""
        move, lane, horizon = flight.move, flight.lane * self.tries, self.horizons[flight.move.stage]
        if move.extends:
            [seed] = seeds_of(move.seed, 1)
            may_be_void = (lambda _: flight.wanted) if flight.ahead else None
            return await draw.extend(current, horizon, seed, may_be_void, lane=lane), None
        rng = np.random.default_rng(move.seed)  # the same draws each time a step is tried
        return await self.kernel.step(
            draw, current, horizon, rng, stage=move.stage, lane=lane, wanted=lambda: flight.wanted
        )

    def _room(self, draw: Draw, flying: int) -> bool:
        """Whether to decode one more proposal beside the ``flying`` ones."""
        if not flying or self.look_ahead != AUTO:
            return flying == 0 or flying < int(self.look_ahead)
        # The n-th proposal counts only if all before it are rejected; at this chance of that it is no longer worth it.
        rejection = 1 - (1 + sum(step.accepted for step in draw.steps)) / (2 + len(draw.steps))
        return flying < MOST_AHEAD and rejection**flying >= WORTH_DRAWING and draw.engine.idle > 0


@dataclass(frozen=True, slots=True)
class _Move:
    """An extension to the stage's horizon, or a Metropolis-Hastings step; its randomness comes from ``seed`` alone."""

    stage: int
    extends: bool
    seed: np.random.SeedSequence


@dataclass(slots=True)
class _Flight:
    """A move that is being decoded; no longer wanted once the chain has moved from where it left.

    Only one that was started ``ahead`` of others can come to that.
    """

    at: int
    move: _Move
    lane: int
    ahead: bool
    wanted: bool = True
    outcome: asyncio.Task[tuple[Trace, Step | None]] = field(init=False)


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
