"""The moves of a chain, made in order, the next few decoded at once from where the chain stands.

Moves are judged in order. The first that moves the chain makes those behind it void: they left from the wrong place,
and are made again with the same randomness. So the chain is the same however far ahead it decodes.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from powercut.samplers.draw import Draw, spawn
from powercut.samplers.kernel import Kernel
from powercut.samplers.until import Until
from powercut.trace import Step, Trace

MOST_AHEAD = 8
"""Most proposals that look-ahead ``auto`` decodes at once."""

WORTH_DRAWING = 0.1
"""``auto`` draws a proposal ahead if the chance that it will count is at least this."""


@dataclass(frozen=True, slots=True)
class Move:
    """An extension to ``horizon``, or a Metropolis-Hastings step at it; all its randomness comes from ``rng``."""

    stage: int
    horizon: int
    extends: bool
    rng: np.random.Generator


class Moves(Sequence[Move]):
    """All that a chain may do, in order: at each horizon an extension, then ``steps`` steps.

    A stage's generators, the next children of ``rng``, are made when one of its moves is first looked at.
    """

    def __init__(self, horizons: Sequence[int], steps: int, rng: np.random.Generator) -> None:
        self.stages = len(horizons)
        self._horizons, self._each, self._rng = horizons, 1 + steps, rng
        self._spawned: list[list[np.random.Generator]] = []

    def __len__(self) -> int:
        return self.stages * self._each

    def left(self, at: int) -> int:
        """How many moves of its stage there are from a place on."""
        return self._each - at % self._each

    def __getitem__(self, at: Any) -> Any:
        """The move at a place, counted from 0."""
        stage, index = divmod(at, self._each)
        while len(self._spawned) <= stage:
            self._spawned.append(spawn(self._rng, self._each))
        return Move(stage, self._horizons[stage], index == 0, self._spawned[stage][index])


@dataclass(slots=True)
class _Flight:
    """A move that is being decoded; ``void`` once the chain has moved from where it left.

    Only one that was started ``ahead`` of others can come to that. ``nulls`` null steps come before it; ``at`` is its
    place behind them.
    """

    at: int
    move: Move
    nulls: int
    lane: int
    ahead: bool
    void: bool = False
    outcome: asyncio.Task[tuple[Trace, Step | None]] = field(init=False)


class LookAhead:
    """A chain that makes ``moves`` by ``kernel``, up to ``at_once`` of them at a time as far as the engine has room.

    "auto" draws as many ahead as are likely to count. ``refine_finished`` False ends it at the first stage that finds
    its completion finished, and inside the target. ``until`` may end a stage before its steps are made.
    """

    def __init__(
        self,
        draw: Draw,
        kernel: Kernel,
        moves: Moves,
        *,
        at_once: int | Literal["auto"] = 1,
        refine_finished: bool = False,
        until: Until | None = None,
    ) -> None:
        self._draw, self._kernel, self._moves = draw, kernel, moves
        self._at_once, self._refine_finished, self._until = at_once, refine_finished, until
        self._current = Trace.empty()
        self._leaves = False  # whether it is finished, and to end with the stage
        self._flying: deque[_Flight] = deque()
        self._landing: list[_Flight] = []  # void, and still in the engine: their lanes are not free yet

    async def walk(self) -> Trace:
        """Make all moves; returns the completion at which the chain ends."""
        at, stages = 0, self._moves.stages
        while await self._launch(at):
            flight = self._flying.popleft()
            tail, step = await self._draw.wait(flight.outcome)
            at, before = flight.at + 1, self._current
            self._draw.nulls += flight.nulls
            if step is not None:
                step = replace(step, nulls=flight.nulls)
            if step is None or step.accepted:
                self._current = self._current.splice(len(self._current) if step is None else step.cut, tail)
                if self._current.finished and not self._refine_finished:
                    self._leaves = await self._draw.fits(self._current)
                self._void_flying()
            if step is not None and self._until is not None and await self._until.ends(step, before, self._current):
                self._void_flying()
                at = flight.at + self._moves.left(flight.at)
            self._draw.show(tail, self._current, stage=flight.move.stage, stages=stages, step=step)
        return self._current

    def _void_flying(self) -> None:
        for behind in self._flying:
            behind.void = True
        self._landing += self._flying
        self._flying.clear()

    async def _launch(self, at: int) -> bool:
        """Decode as many moves from ``at`` on as there is room for, beside those that are flying; whether any is."""
        flying = self._flying
        while not (flying and flying[-1].move.extends):  # nobody knows from where the chain goes on after an extension
            if not self._has_room():
                break
            flight, nulls = self._next(flying[-1].at + 1 if flying else at)
            if flight is None:
                self._draw.nulls += 0 if flying else nulls
                break
            flight.outcome = self._draw.start(self._make(flight))
            flying.append(flight)
            if self._at_once != 1:
                await asyncio.sleep(0)  # other chains take what is idle by turns, not one of them all of it
        return bool(flying)

    def _next(self, at: int) -> tuple[_Flight | None, int]:
        """The first move from ``at`` on that is made, and how many null steps are passed over on the way to it.

        What is finished is not extended, and maybe leaves. A stage whose other steps are all null is over.
        """
        nulls = 0
        while at < len(self._moves):
            move = self._moves[at]
            rng = copy.deepcopy(move.rng)  # the same draws each time it is made
            if not move.extends:
                most = self._moves.left(at)
                passed = self._kernel.nulls(self._current, most, rng)
                at, nulls = at + passed, nulls + passed
                if passed == most:
                    continue
            elif self._current.finished:
                at = len(self._moves) if self._leaves else at + 1
                continue
            ahead = bool(self._flying)
            return _Flight(at, replace(move, rng=rng), nulls, self._free_lane(), ahead), nulls
        return None, nulls

    async def _make(self, flight: _Flight) -> tuple[Trace, Step | None]:
        """The tail that a move draws from where the chain stands, and what became of it (None for an extension)."""
        move, lane = flight.move, flight.lane * self._kernel.tries
        if move.extends:
            is_void = (lambda: flight.void) if flight.ahead else None
            return await self._draw.grow(self._current, move.horizon, move.rng, is_void, lane=lane), None
        return await self._kernel.step(
            self._draw,
            self._current,
            move.horizon,
            move.rng,
            differs=True,
            stage=move.stage,
            lane=lane,
            is_void=lambda: flight.void,
        )

    def _free_lane(self) -> int:
        """A lane in which nothing of this chain decodes, so that no two share a cache."""
        self._landing = [flight for flight in self._landing if not flight.outcome.done()]
        taken = {flight.lane for flight in (*self._flying, *self._landing)}
        return min(set(range(len(taken) + 1)) - taken)

    def _has_room(self) -> bool:
        """Whether to decode one more proposal beside those that are flying.

        None is drawn ahead on a full engine: it would wait there, and by its turn be void as often as not, when serving
        it costs others their slot and what that had cached.
        """
        flying = len(self._flying)
        return flying == 0 or (self._is_worth_drawing(flying) and self._draw.idle >= self._kernel.tries)

    def _is_worth_drawing(self, ahead: int) -> bool:
        """Whether the proposal that has so many ``ahead`` of it is worth its tokens."""
        if self._at_once != "auto":
            return ahead < self._at_once
        # It counts only if all ahead of it are rejected.
        steps = self._draw.steps
        rejection = 1 - (1 + sum(step.accepted for step in steps)) / (2 + len(steps))
        return ahead < MOST_AHEAD and rejection**ahead >= WORTH_DRAWING
