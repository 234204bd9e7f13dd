"""Which slot holds which tokens: rows that decode together, and stores that keep what they grew from.

A *slot* is two sequences of the model's cache: a *row*, where a request decodes, and a *store*. A chain works in one
slot (in one for each lane, where its requests overlap): its proposal grows in the row, its current completion stays in
the store. After a rejection the part of the prefix that the row lacks is copied back; after an acceptance the new tail
is copied out. What copying and computing are is the model's library's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from powercut.engines.laws import library
from powercut.engines.protocol import Chain, Request
from powercut.trace import IntArray

LIKELY_KEPT = 64
"""How many of the most likely next tokens are kept at each cached position, to draw again there without computing."""


class Feed(NamedTuple):
    """New ``tokens`` of a row, which holds ``start`` tokens before them."""

    row: int
    start: int
    tokens: IntArray

    @property
    def end(self) -> int:
        """How many tokens the row holds afterwards."""
        return self.start + len(self.tokens)


@dataclass(slots=True)
class Slot:
    """A row and its store, and whose they are: the last request's chain and lane.

    ``wanted`` says whether the request that grew the row's last tokens wanted them; ``used`` when the slot was used.
    """

    row: int
    store: int
    chain: Chain | None = None
    lane: int = 0
    busy: bool = False
    wanted: bool = True
    used: int = 0

    @property
    def alive(self) -> bool:
        """Whether the chain that worked in it last may ask again."""
        return self.chain is not None and not self.chain.closed


class Slots:
    """The books of ``2 * slots`` sequences of up to ``length`` tokens: rows 0 to slots - 1, and stores.

    ``likely_scores`` and ``likely_ids`` ``[2 * slots, length, width]`` are arrays of the model's library for the most
    likely next tokens after each cached position, best first; the scores are NaN where they are not known.
    """

    whole_contexts = False
    shares = True

    def __init__(self, slots: int, length: int, likely_scores: Any, likely_ids: Any) -> None:
        self.length = length
        self._likely_scores, self._likely_ids = likely_scores, likely_ids
        self._held = np.zeros((2 * slots, length), dtype=np.int64)
        self._filled = np.zeros(2 * slots, dtype=np.int64)
        self.slots = [Slot(row=i, store=slots + i) for i in range(slots)]
        self._clock = 0

    def free(self) -> int:
        """How many slots are free."""
        return sum(not slot.busy for slot in self.slots)

    def knows(self, request: Request) -> bool:
        """Whether a slot is free in which the request's chain worked last, in the same lane."""
        return self._own(request) is not None

    def open(self, request: Request) -> tuple[Slot, int]:
        """Give the request a slot, and its row what any holds of the context; returns the slot and the tokens held.

        It is the slot in which its chain worked last, or else the one that has been free for longest, of a chain that
        has ended if there is one: what that left behind is forgotten now, less what the context shares with it.
        """
        context = request.context
        idle = (slot for slot in self.slots if not slot.busy)
        slot = self._own(request) or min(idle, key=lambda slot: (slot.alive, slot.used))
        common = common_length(self._held[slot.row, : self._filled[slot.row]], context)
        if self._filled[slot.row] > common:  # what follows is about to be overwritten
            if slot.alive:
                self._keep(slot)
            self.rewind(slot, common)
        held = self.borrow(slot, context)
        if not slot.alive:
            self._cut(slot.store, 0)
        self._clock += 1
        slot.chain, slot.lane, slot.busy = request.chain, request.lane, True
        slot.wanted, slot.used = True, self._clock
        return slot, held

    def borrow(self, slot: Slot, context: IntArray) -> int:
        """Copy to the slot's row what any row or store holds of its context by now; returns the tokens held."""
        shared = self._shared(context)
        source = int(shared.argmax())
        if shared[source] > self._filled[slot.row]:
            self._copy(source, slot.row, int(self._filled[slot.row]), int(shared[source]))
        return int(self._filled[slot.row])

    def rewind(self, slot: Slot, length: int) -> int:
        """Step back to the first ``length`` tokens of what the slot's row holds (see ``Cache``)."""
        self._cut(slot.row, length)
        return int(self._filled[slot.row])

    def close(self, slot: Slot, context_length: int, wanted: bool) -> None:
        """Free the slot. Tokens after its context are forgotten if they are not ``wanted``."""
        self._clock += 1
        slot.busy, slot.wanted, slot.used = False, wanted, self._clock
        if not wanted:
            self.rewind(slot, context_length)

    def likely(self, slot: Slot, position: int, width: int) -> tuple[Any, Any] | None:
        """Scores and ids ``[width]`` of the most likely tokens to follow ``position``, if they are known."""
        if width > self._likely_scores.shape[2] or position >= self._filled[slot.row]:
            return None
        scores = self._likely_scores[slot.row, position, :width]
        unknown = bool(library(scores).isnan(scores[-1]))
        return None if unknown else (scores, self._likely_ids[slot.row, position, :width])

    def remember(self, slots: Sequence[Slot], scores: Any, ids: Any) -> None:
        """Keep the most likely next tokens ``[slots, K]``, best first, after each slot's last token."""
        width = min(scores.shape[1], self._likely_scores.shape[2])
        rows = np.array([slot.row for slot in slots])
        at, xp = (rows, self._filled[rows] - 1, slice(0, width)), library(scores)
        for kept, new in ((self._likely_scores, scores), (self._likely_ids, ids)):
            kept[at] = xp.asarray(new[:, :width], dtype=kept.dtype)

    def advance(self, slots: Sequence[Slot], tokens: Sequence[IntArray], drawing: int) -> Any:
        """Feed busy slots ``tokens``, at least one each, behind what their rows hold.

        Returns the logits ``[drawing, V]`` of what follows in the first ``drawing`` of them.
        """
        feeds = [Feed(slot.row, int(self._filled[slot.row]), new) for slot, new in zip(slots, tokens, strict=True)]
        logits = self._compute(feeds, drawing)
        for feed in feeds:
            self._held[feed.row, feed.start : feed.end] = feed.tokens
            self._likely_scores[feed.row, feed.start : feed.end] = np.nan
            self._filled[feed.row] = feed.end
        return logits

    def most_likely(self, logits: Any, count: int) -> tuple[Any, Any]:
        """The ``count`` largest of each row of ``logits``, best first, and their ids (see ``Cache``)."""
        raise NotImplementedError

    def forget(self, slot: Slot) -> None:
        """Clear a row whose values may be NaN: a masked NaN would spoil whoever uses the row next."""
        raise NotImplementedError

    def _compute(self, feeds: Sequence[Feed], drawing: int) -> Any:
        """One pass of the model over all ``feeds``: the logits after the first ``drawing`` of them."""
        raise NotImplementedError

    def _duplicate(self, source: int, target: int, start: int, end: int) -> None:
        """Have the model's cache hold positions ``start..end-1`` of a sequence in another, which holds ``start``."""
        raise NotImplementedError

    def _cut(self, sequence: int, length: int) -> None:
        """Keep at most the first ``length`` tokens of a row or store; fewer where the model cannot go on there."""
        self._filled[sequence] = min(self._filled[sequence], length)

    def _own(self, request: Request) -> Slot | None:
        if request.chain is None:
            return None
        idle = (slot for slot in self.slots if not slot.busy)
        return next((slot for slot in idle if slot.chain is request.chain and slot.lane == request.lane), None)

    def _shared(self, context: IntArray) -> IntArray:
        """How many leading tokens each row and store has in common with ``context``."""
        n = min(len(context), self.length)
        same = (self._held[:, :n] == context[:n]) & (np.arange(n) < self._filled[:, None])
        return np.where(same.all(axis=1), n, same.argmin(axis=1)).astype(np.int64)

    def _keep(self, slot: Slot) -> None:
        """Copy the row's content to the store before it is overwritten, if that is where the chain now stands.

        It is if its request wanted it, or if it only grew what the store holds.
        """
        row, store = slot.row, slot.store
        held = self._held[row, : self._filled[row]]
        common = common_length(self._held[store, : self._filled[store]], held)
        if common < len(held) and (slot.wanted or common == self._filled[store]):
            self._copy(row, store, common, len(held))

    def _copy(self, source: int, target: int, start: int, end: int) -> None:
        """Copy positions ``start..end-1`` from a row or store to another, which then holds ``end`` tokens."""
        self._cut(target, start)
        start = min(start, int(self._filled[target]))
        self._duplicate(source, target, start, end)
        for part in (self._likely_scores, self._likely_ids, self._held):
            part[target, start:end] = part[source, start:end]
        self._filled[target] = end


def common_length(a: IntArray, b: IntArray) -> int:
    """How many leading tokens two sequences share."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n
