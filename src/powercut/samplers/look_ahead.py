"""The moves of a chain, made in order, those that may come next decoded while nobody knows yet whether they will.

Moves are judged in order. Several are decoded at once: from where the chain stands, those that come if nothing moves
it; and from the text that is being drawn, as far as it has come, those that come if that is where the chain goes: where
they would cut it if it ended here. What was decoded for a move counts if the move, once it is due, asks for the same
tokens of the same seed; what it would ask else is decoded anew. So the chain is the same however far ahead it decodes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from powercut.samplers.draw import Draw
from powercut.samplers.guess import Guess
from powercut.samplers.kernel import Kernel, Plan
from powercut.samplers.moves import Move, Moves
from powercut.samplers.until import Until
from powercut.samplers.worth import MOST_AHEAD
from powercut.trace import Step, Trace

GUESS_EVERY = 4
"""Tokens of a growing text after which the moves behind it are guessed again."""

Key = tuple[object, ...]
"""What tells the request of one step from that of another: not its place, since it may pass over more null steps."""


@dataclass(slots=True)
class _Decode:
    """The request of a move, in a lane; ``chance`` is how likely the move is to make it."""

    key: Key
    lane: int
    guess: Guess
    chance: float = 1.0

    @property
    def landed(self) -> bool:
        """Whether nothing of it is decoded any more."""
        return self.guess.ended


@dataclass(slots=True)
class _Flight:
    """A move on its way, after ``nulls`` null steps; ``at`` is its place behind them.

    ``tail`` is what came of it so far, and ``guessed_at`` how many tokens of that the last guess knew. Once it is known
    that it will not come, one that takes a ``decode`` is cancelled, since others may want that; any other is ``void``.
    """

    at: int
    move: Move
    plan: Plan | None
    nulls: int
    key: Key
    lane: int = 0
    decode: _Decode | None = None
    void: bool = False
    tail: list[Trace] = field(default_factory=list)
    guessed_at: int = -GUESS_EVERY
    outcome: asyncio.Task[tuple[Trace, Step | None]] = field(init=False)

    @property
    def landed(self) -> bool:
        """Whether nothing of it is decoded any more."""
        return self.outcome.done()


def _key(plan: Plan) -> Key:
    """Of the request of a step with a single try; none if there is nothing to ask for."""
    [only] = plan.tries
    if only.repeats:
        return ()
    return only.kept.tokens.tobytes(), only.seed, None if only.first is None else only.first.tokens.tobytes()


class LookAhead:
    """A chain that makes ``moves`` by ``kernel``, up to ``at_once`` of them at a time as far as the engine has room.

    "auto" draws as many ahead as are likely to count, for as long as that pays: by how much longer the engine is seen
    to take for a token with more requests. ``refine_finished`` False ends it at the first stage that finds its
    completion finished, and inside the target. ``until`` may end a stage before its steps are made.
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
        self._most = MOST_AHEAD if at_once == "auto" else at_once
        self._current = Trace.empty()
        self._leaves = False  # whether it is finished, and to end with the stage
        self._head: _Flight | None = None  # the move that is waited for
        self._flying: deque[_Flight] = deque()  # those behind it, if it moves nothing
        self._decodes: dict[Key, _Decode] = {}  # of moves behind it, in either case
        self._moved: dict[Key, float] = {}  # those of them that come if it moves the chain, and the chance of that
        self._behind: list[_Flight] = []  # steps that come then, and are not decoded yet: the likeliest first
        # Several tries are judged together as they come; a published step's request depends on the length of the text.
        self._shares = kernel.tries == 1 and kernel.rule == "exact" and at_once != 1
        self._guesses = self._shares and not draw.redraws  # an extension that is drawn again is no text to guess from
        self._landing: list[_Flight | _Decode] = []  # void, and maybe in the engine: their lanes are not free yet

    async def walk(self) -> Trace:
        """Make all moves; returns the completion at which the chain ends."""
        at, stages = 0, self._moves.stages
        while self._flying or self._launch(at):
            flight = self._head = self._flying.popleft()
            if flight.decode is not None:
                del self._decodes[flight.decode.key]
            while self._at_once != 1 and not flight.landed and self._look_ahead():
                await asyncio.sleep(0)  # other chains take what is idle by turns, not one of them all of it
            tail, step = await self._draw.wait(flight.outcome)
            self._head, at, before = None, flight.at + 1, self._current
            self._draw.nulls += flight.nulls
            moved = step is None or step.accepted
            if step is not None:
                step = replace(step, nulls=flight.nulls)
            if moved:
                self._current = self._current.splice(len(self._current) if step is None else step.cut, tail)
                if self._current.finished and not self._refine_finished:
                    self._leaves = await self._draw.fits(self._current)
            if step is not None and self._until is not None and await self._until.ends(step, before, self._current):
                at, moved = flight.at + self._moves.left(flight.at), True
            self._land(flight, at, moved=moved)
            self._draw.show(tail, self._current, stage=flight.move.stage, stages=stages, step=step)
        self._keep(())
        return self._current

    def _land(self, flight: _Flight, at: int, *, moved: bool) -> None:
        """The head has landed, and the chain goes on ``at`` a place: of what is decoded, keep what comes there."""
        self._behind, self._moved = [], {}
        if flight.decode is not None:
            self._landing.append(flight.decode)
        if not moved:
            self._keep([behind.key for behind in self._flying if behind.decode is not None])
            return
        for behind in self._flying:
            if behind.decode is None:
                behind.void = True
                self._landing.append(behind)
            else:
                behind.decode.guess.release()
                behind.outcome.cancel()
        self._flying.clear()
        due: list[Key] = []
        while len(due) < len(self._decodes):
            following = self._next(at, self._current)
            if isinstance(following, int) or following.plan is None:
                break
            due.append(following.key)
            at = following.at + 1
        self._keep([key for key in due if key in self._decodes and not self._decodes[key].guess.void])

    def _keep(self, due: Iterable[Key]) -> None:
        """Give up what is decoded of other moves than those."""
        due = set(due)
        for key in [key for key in self._decodes if key not in due]:
            self._decodes[key].guess.void = True
            self._landing.append(self._decodes.pop(key))

    def _look_ahead(self) -> bool:
        """Decode one more move that may come after the head: the likeliest, if that pays; whether one was started."""
        head = self._head
        if head is None:
            return False
        self._guess(head)
        last = self._flying[-1] if self._flying else head
        stays = 0.0  # the chance that the next one is due; after an extension nobody knows where the chain stands
        if not last.move.extends:
            stays = (1 - self._acceptance(head)) * (1 - self._draw.worth.acceptance()) ** len(self._flying)
        self._behind = [behind for behind in self._behind if behind.key not in self._decodes]
        if self._behind and (moves := self._moved[self._behind[0].key]) > stays:
            if not self._has_room(moves):
                return False
            self._decode(self._behind.pop(0)).chance = moves
            return True
        is_decoded = len(self._decodes) > sum(behind.decode is not None for behind in self._flying)
        return stays > 0 and (is_decoded or self._has_room(stays)) and self._launch(last.at + 1, stays)

    def _acceptance(self, head: _Flight) -> float:
        """The chance that the head moves the chain."""
        return 1.0 if head.plan is None else self._draw.worth.acceptance(sum(map(len, head.tail)))

    def _launch(self, at: int, chance: float = 1.0) -> bool:
        """Send off the first move from ``at`` on, due with that chance; whether there is one, and room for it."""
        flight = self._next(at, self._current)
        if isinstance(flight, int):
            self._draw.nulls += 0 if self._head else flight
            return False
        if self._head is not None and flight.key not in self._decodes and not self._has_room(chance):
            return False
        if not flight.key:
            flight.lane = self._free_lane()
        else:
            flight.decode = self._decodes.get(flight.key) or self._decode(flight)
            flight.decode.chance = max(chance, self._moved.get(flight.key, 0.0))
            flight.lane = flight.decode.lane
        flight.outcome = self._draw.start(self._make(flight))
        self._flying.append(flight)
        return True

    def _decode(self, flight: _Flight) -> _Decode:
        """Decode what a step asks for."""
        assert flight.plan is not None
        [only], lane = flight.plan.tries, self._free_lane()
        guess = self._draw.guess(only.kept, flight.move.horizon, only.seed, first=only.first, lane=lane)
        decode = self._decodes[flight.key] = _Decode(flight.key, lane, guess)
        return decode

    def _next(self, at: int, text: Trace) -> _Flight | int:
        """The first move from ``at`` on that is made if the chain stands at ``text``, or how many null steps are left.

        What is finished is not extended, and maybe leaves. A stage whose other steps are all null is over.
        """
        nulls = 0
        while at < len(self._moves):
            move = self._moves[at]
            plan: Plan | None = None
            key: Key = ()
            if not move.extends:
                most = self._moves.left(at)
                passed = self._kernel.nulls(text, most, move.rng)
                at, nulls = at + passed, nulls + passed
                if passed == most:
                    continue
                plan = self._kernel.plan(text, move.rng, self._draw.temperature_at, differs=True)
                key = _key(plan) if self._shares else ()
            elif text.finished:
                at = len(self._moves) if self._leaves else at + 1
                continue
            return _Flight(at, move, plan, nulls, key)
        return nulls

    async def _make(self, flight: _Flight) -> tuple[Trace, Step | None]:
        """The tail that a move draws from where the chain stands, and what became of it (None for an extension)."""
        move, lane = flight.move, flight.lane * self._kernel.tries

        def keep_going(piece: Trace) -> bool:
            flight.tail.append(piece)
            if flight is self._head and not flight.void:
                self._look_ahead()
            return not flight.void

        asks = None if self._at_once == 1 else keep_going
        if flight.plan is None:
            return await self._draw.grow(self._current, move.horizon, move.rng, asks, lane=lane), None
        return await self._kernel.step(
            self._draw,
            self._current,
            move.horizon,
            move.rng,
            plan=flight.plan,
            stage=move.stage,
            lane=lane,
            keep_going=asks,
        )

    def _guess(self, head: _Flight) -> None:
        """Look at what the head's text, as far as it has come, says of the moves behind it, if it moves the chain.

        Those of which it says something else than before are given up; the others are to be decoded.
        """
        grown = sum(map(len, head.tail))
        if not self._guesses or grown < head.guessed_at + GUESS_EVERY:
            return
        cut = len(self._current) if head.plan is None else head.plan.cut
        text = self._current.splice(cut, Trace.join(head.tail))
        if not len(text) or text.finished or len(text) == head.move.horizon:
            return  # when it lands is soon enough
        head.guessed_at, self._behind, self._moved = grown, [], {}
        # The cut that is drawn for the whole text is drawn for a part of it about as often as it lies there.
        chance = len(text) / head.move.horizon * self._acceptance(head)
        at = head.at + 1
        while len(self._moved) < MOST_AHEAD:
            flight = self._next(at, text)
            if isinstance(flight, int) or flight.plan is None:
                break
            self._moved[flight.key] = chance
            if flight.key and flight.key not in self._decodes:
                self._behind.append(flight)
            at, chance = flight.at + 1, chance * (1 - self._draw.worth.acceptance())
        self._keep([*self._moved, *(behind.key for behind in self._flying)])

    def _free_lane(self) -> int:
        """A lane in which nothing of this chain decodes, so that no two share a cache."""
        self._landing = [each for each in self._landing if not each.landed]
        taken = {each.lane for each in (*self._decodes.values(), *self._flying, *self._landing)}
        if self._head is not None:
            taken.add(self._head.lane)
        return min(set(range(len(taken) + 1)) - taken)

    def _has_room(self, chance: float) -> bool:
        """Whether to decode one more move behind the head, which counts with this chance.

        None is drawn ahead on a full engine: it would wait there, and by its turn be void as often as not, when serving
        it costs others their slot and what that had cached.
        """
        chances = [each.chance for each in self._decodes.values()]
        chances += [chance for behind in self._flying if behind.decode is None]
        ahead = len(chances) + 1
        if self._draw.idle(waits=True) < self._kernel.tries or ahead >= self._most:
            return False
        busy = self._draw.busy
        likely = max(1.0, busy - len(chances) + sum(chances))
        return self._at_once != "auto" or self._draw.worth.pays(chance, busy, likely)
