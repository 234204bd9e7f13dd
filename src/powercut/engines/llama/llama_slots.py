"""The cache of the llama engine: rows and stores are sequences of llama.cpp, which share the cells of what is equal.

Keeping a current completion costs no copy and no memory: its store shares the cells of the row that it grew in. There
are cells for every slot at its full length. What is kept beyond that, of chains that rest, has whatever is free; where
a pass finds too few cells, what was used longest ago is forgotten, and computed again if it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from powercut.engines.batching.slots import LIKELY_KEPT, Feed, Slot, Slots
from powercut.engines.llama.context import NO_ROOM, Context
from powercut.engines.protocol import Request
from powercut.errors import EngineError
from powercut.trace import FloatArray, IntArray

_STRIDE = 64
"""In how many parts a row of logits is compared, number by number, to find what may be among the largest."""


class LlamaSlots(Slots):
    """``slots`` places of up to ``length`` tokens in ``context``, whose sequences are rows and then stores."""

    way = "in one batch"
    likely_kept = LIKELY_KEPT

    def __init__(self, context: Context, slots: int, length: int, vocab_size: int) -> None:
        shape = (2 * slots, length, min(self.likely_kept, vocab_size))
        super().__init__(slots, length, np.full(shape, np.nan, dtype=np.float32), np.zeros(shape, dtype=np.int32))
        self._context = context

    @property
    def nbytes(self) -> int:
        """Memory of the books, in bytes; that of the cells is llama.cpp's."""
        return int(self._likely_scores.nbytes + self._likely_ids.nbytes + self._held.nbytes)

    def most_likely(self, logits: FloatArray, count: int) -> tuple[FloatArray, IntArray]:
        """See ``Cache``."""
        return largest(logits, count)

    def forget(self, slot: Slot) -> None:
        """See ``Slots``; llama.cpp computes nothing with cells that are hidden.

        A pass that failed may have left cells that are not in the books.
        """
        self._empty(slot.row)

    def _compute(self, feeds: Sequence[Feed], drawing: int) -> FloatArray:
        return self._run(feeds, np.arange(drawing))

    def _run(self, feeds: Sequence[Feed], drawing: IntArray) -> FloatArray:
        """One pass over ``feeds``; returns the logits after those whose places, in order, are ``drawing``."""
        tokens = np.concatenate([feed.tokens for feed in feeds])
        positions = np.concatenate([np.arange(feed.start, feed.end) for feed in feeds])
        sequences = np.concatenate([np.full(len(feed.tokens), feed.row) for feed in feeds])
        lasts = np.cumsum([len(feed.tokens) for feed in feeds])[drawing] - 1
        spare = self._spare()
        while self._context.decode(tokens, positions, sequences, lasts) == NO_ROOM:
            if (other := next(spare, None)) is None:
                raise EngineError("out of memory while decoding: lower slots or context_length")
            self._cut(other, 0)
        return self._context.logits(len(drawing)) if len(drawing) else np.empty((0, 0), dtype=np.float32)

    def _spare(self) -> Iterator[int]:
        """Sequences that can be forgotten: idle slots' before stores of busy ones, what was used longest ago first."""
        for slot in sorted(self.slots, key=lambda slot: (slot.busy, slot.used)):
            for sequence in (slot.store,) if slot.busy else (slot.store, slot.row):
                if self._filled[sequence]:
                    yield sequence

    def _shared(self, context: IntArray) -> IntArray:
        shared = super()._shared(context)
        for sequence in np.flatnonzero(shared).tolist():
            if not self._context.reaches(sequence, int(shared[sequence])):
                shared[sequence] = 0
        return shared

    def _empty(self, sequence: int) -> None:
        self._context.cut(sequence, 0)
        self._filled[sequence] = 0

    def _duplicate(self, source: int, target: int, start: int, end: int) -> None:
        if self._context.first(source) > start:  # or there would be a hole in the target
            self._context.cut(target, 0)
            start = 0
        self._context.share(source, target, start, end)

    def _cut(self, sequence: int, length: int) -> None:
        if self._filled[sequence] > length and not self._context.cut(sequence, length):
            length = 0
        super()._cut(sequence, length)


class UncutSlots(LlamaSlots):
    """The same for models whose memory cannot be cut (recurrent layers): each request begins with nothing.

    Of the sequences only the rows are used. ``sound`` is the state of some sequence without NaN.
    """

    way = "in one batch, without prefix reuse"
    shares = False
    likely_kept = 0

    def __init__(self, context: Context, slots: int, length: int, vocab_size: int, sound: Any) -> None:
        super().__init__(context, slots, length, vocab_size)
        self._sound = sound

    @property
    def nbytes(self) -> int:
        """See ``LlamaSlots``."""
        return super().nbytes + len(self._sound)

    def knows(self, request: Request) -> bool:
        """Nothing outlives its request."""
        return False

    def forget(self, slot: Slot) -> None:
        """See ``Slots``. llama.cpp begins a state with 0 times what was there, which leaves NaN: so write over it.

        What nobody holds is in as many places as there are free rows, and a restored state takes one of them.
        """
        super().forget(slot)
        free = [each.row for each in self.slots if not each.busy or each is slot]
        for row in free:
            self._context.restore(row, self._sound)
        for row in free:
            self._empty(row)

    def open(self, request: Request) -> tuple[Slot, int]:
        """The first free slot, emptied."""
        slot = next(slot for slot in self.slots if not slot.busy)
        self._cut(slot.row, 0)
        self._clock += 1
        slot.busy, slot.used = True, self._clock
        return slot, 0

    def rewind(self, slot: Slot, length: int) -> int:
        """A newcomer holds nothing yet, and what a request leaves behind goes when the next one comes."""
        return int(self._filled[slot.row])

    def likely(self, slot: Slot, position: int, width: int) -> None:
        """No laws are kept: the place after them could not be gone back to."""
        return

    def _compute(self, feeds: Sequence[Feed], drawing: int) -> FloatArray:
        # In the order of their rows: llama.cpp computes recurrent layers together only where the numbers go up by one.
        order = np.argsort([feed.row for feed in feeds])
        logits = self._run([feeds[i] for i in order], np.flatnonzero(order < drawing))
        came = order[order < drawing]
        return logits if (came[:-1] < came[1:]).all() else logits[np.argsort(came)]


def largest(values: FloatArray, count: int) -> tuple[FloatArray, IntArray]:
    """The ``count`` largest of each row ``[rows, V]``, largest first, and their places: both ``[rows, count]``.

    Each row is cut in parts that are compared number by number. The ``count``-th largest of these maxima bounds from
    below what is looked for, which is hence in the ``count`` columns of the largest maxima, or in what no part covers.
    """
    rows, size = values.shape
    width = size // _STRIDE
    if width <= 2 * count:  # the columns would be most of the row
        return _sorted(values, np.broadcast_to(np.arange(size), values.shape), count)
    parts = values[:, : _STRIDE * width].reshape(rows, _STRIDE, width)
    columns = np.argpartition(parts.max(axis=1), width - count, axis=1)[:, width - count :]
    places = (columns[:, None] + width * np.arange(_STRIDE)[:, None]).reshape(rows, -1)
    rest = np.broadcast_to(np.arange(_STRIDE * width, size), (rows, size - _STRIDE * width))
    places = np.concatenate((places, rest), axis=1)
    return _sorted(np.take_along_axis(values, places, axis=1), places, count)


def _sorted(values: FloatArray, places: IntArray, count: int) -> tuple[FloatArray, IntArray]:
    last = values.shape[1] - count
    kept = np.argpartition(values, last, axis=1)[:, last:] if last else np.broadcast_to(np.arange(count), values.shape)
    found = np.take_along_axis(values, kept, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    kept = np.take_along_axis(kept, order, axis=1)
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(places, kept, axis=1)
