"""One request in a batch, and the tokens that are drawn for many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence as Several
from typing import Any

import numpy as np

from powercut.engines.laws import Drawn, beside, draw, library, next_token_law, to_numpy
from powercut.engines.sequence import Sequence
from powercut.trace import IntArray, Rows, Trace


class Member:
    """One request in the batch: where it decodes, what is to be fed, what it drew last, who waits for its outcome."""

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.outcome: asyncio.Future[Trace] = asyncio.get_running_loop().create_future()
        self.left = False  # nobody waits any more
        # Noise from the seed alone: token t uses noise[t], whoever else is in the batch.
        self.noise = np.random.default_rng(sequence.request.seed).random(sequence.request.max_new_tokens)
        self.slot: Any = None
        self.rest = sequence.rest()
        """What is asked for, less a token that was drawn already."""
        self.cached = 0
        """How many of the context's tokens the slot holds."""
        self.after: list[tuple[Member, int]] = []
        """Newcomers before it, and how many leading tokens their contexts share: more than it holds."""
        self.drawn: Drawn | None = None
        self.nothing_left = False  # to draw: all that the model may say are stops, and it is too early for one

    @property
    def to_feed(self) -> IntArray:
        """The tokens that the next draw follows and the slot lacks: of the context, or the one drawn last."""
        return self.rest.context[self.cached :] if self.drawn is None else np.array([self.sequence.last_token])

    def hold(self, count: int) -> None:
        """Note that its slot holds ``count`` tokens of its context; nobody is kept who has no more than that for it."""
        self.cached = count
        self.after = [(other, shared) for other, shared in self.after if shared > count]

    def fed(self, count: int) -> int:
        """Note that ``count`` more tokens of its context were computed; returns how many of them its request brought.

        A token that was drawn already is fed like any other.
        """
        brought = len(self.rest.context) - self.sequence.count
        computed = max(0, min(self.cached + count, brought) - self.cached)
        self.hold(self.cached + count)
        self.sequence.prefilled += computed
        return computed

    async def trace(self) -> Trace:
        """What it drew. Raises EngineError when the model fails; cancelling takes it out of the batch."""
        try:
            return await self.outcome
        finally:
            self.left = True
            self.sequence.close()


@np.errstate(all="ignore")  # torch says nothing either: impossible tokens are meant, and a sequence refuses NaN
def draw_for(members: Several[Member], scores: Any, ids: Any) -> None:
    """Draw each member's next token from its scores ``[members, K]``; ``ids`` None: all tokens, in order.

    The arrays are numpy's or torch's.
    """
    xp, rows = library(scores), list(range(len(members)))
    temperature = np.array([m.sequence.request.temperature for m in members])
    noise = np.array([m.noise[m.sequence.count] for m in members])
    scores = _without_barred(members, scores, ids)
    law = next_token_law(xp.asarray(scores, dtype=xp.float64), beside(scores, temperature))
    kept: list[Rows | None] = [None] * len(members)
    if ids is not None and any(member.sequence.request.rows for member in members):
        all_ids, all_logp = to_numpy(ids).astype(np.int32), to_numpy(law.logp).astype(np.float32)
        kept = [Rows(all_ids[i : i + 1], all_logp[i : i + 1]) for i in rows]
    drawn = xp.clip(draw(law.logq, beside(scores, noise)), 0, scores.shape[1] - 1)  # NaN rows draw past the end
    tokens = to_numpy(drawn if ids is None else ids[rows, drawn]).astype(np.int64)
    laws = to_numpy(xp.stack((law.logp[rows, drawn], law.logq[rows, drawn], law.entropy)))
    for i, member in enumerate(members):
        member.drawn = Drawn(tokens[i : i + 1], laws[:, i : i + 1], kept[i])


def _without_barred(members: Several[Member], scores: Any, ids: Any) -> Any:
    """The scores with -inf for tokens that a request bars; a copy, since the cache remembers what it is given."""
    rows = [(row, barred) for row, member in enumerate(members) if (barred := member.sequence.barred)]
    if not rows:
        return scores
    xp, hidden = library(scores), np.zeros(tuple(scores.shape), dtype=np.bool_)
    for row, barred in rows:
        if ids is None:
            hidden[row, [token for token in barred if token < hidden.shape[1]]] = True
        else:
            hidden[row] = np.isin(to_numpy(ids[row]), list(barred))
    scores = xp.where(beside(scores, hidden), -xp.inf, scores)
    for row, _ in rows:
        members[row].nothing_left = bool(xp.isneginf(scores[row]).all())
    return scores
