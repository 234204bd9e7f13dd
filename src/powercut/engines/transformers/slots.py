"""The KV cache of the transformers engine: rows that decode together, and stores that keep what they grew from.

Each layer has one tensor ``[2 * slots, heads, length, dim]``. A *slot* is two of its entries: a *row* in the first
half, where a request decodes, and a *store* in the second. The busy rows are kept dense, so that they decode together
as one zero-copy view. A chain works in one slot (in one for each lane, where its requests overlap): its proposal grows
in the row, its current completion stays in the store. After a rejection the part of the prefix that the row lacks is
copied back; after an acceptance the new tail is copied out. Copying costs about a hundredth of prefilling the same
tokens (``benchmarks/engine.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from powercut.engines.protocol import Chain, Request
from powercut.engines.transformers.one_pass import Feed, NoSlotsError, OnePass, SlotLayer, Window
from powercut.models.libraries import cache_name
from powercut.trace import IntArray

LIKELY_KEPT = 64
"""How many of the most likely next tokens are kept at each cached position, to draw again there without computing."""


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


class Slots:
    """KV cache of ``2 * slots`` sequences of up to ``length`` tokens for ``model``; all memory is taken here.

    ``way`` is how the model is fed. Raises NoSlotsError where the model keeps anything but plain keys and values of
    every token, or cannot be fed so.
    """

    whole_contexts = False
    """A context may come in pieces, and what others have of it is copied."""

    def __init__(self, model: PreTrainedModel, slots: int, length: int, way: type[OnePass]) -> None:
        shapes = _layer_shapes(model)
        self.device = model.device
        self.length = length
        window = Window()
        with torch.inference_mode(False):  # or they could not be written to outside it
            kinds = {"dtype": model.dtype, "device": self.device}
            self._layers = [
                SlotLayer(
                    torch.zeros(2 * slots, k_heads, length, k_dim, **kinds),
                    torch.zeros(2 * slots, v_heads, length, v_dim, **kinds),
                    window,
                )
                for (k_heads, k_dim), (v_heads, v_dim) in shapes
            ]
            width = min(LIKELY_KEPT, model.config.get_text_config().vocab_size)
            # Scores and ids of the most likely next tokens after each cached position; NaN where they are not known.
            scores = torch.promote_types(model.dtype, torch.float32)
            self._likely_scores = torch.full((2 * slots, length, width), torch.nan, dtype=scores, device=self.device)
            self._likely_ids = torch.zeros((2 * slots, length, width), dtype=torch.int32, device=self.device)
        self._held = np.zeros((2 * slots, length), dtype=np.int64)
        self._filled = np.zeros(2 * slots, dtype=np.int64)
        self.slots = [Slot(row=i, store=slots + i) for i in range(slots)]
        self._clock = 0
        self._pass = way(model, self._layers, window)
        self.way = way.way

    @property
    def nbytes(self) -> int:
        """Memory taken, in bytes."""
        tensors = [t for layer in self._layers for t in (layer.keys, layer.values)]
        return sum(t.numel() * t.element_size() for t in (*tensors, self._likely_scores, self._likely_ids))

    def free(self) -> int:
        """How many slots are free."""
        return sum(not slot.busy for slot in self.slots)

    def knows(self, request: Request) -> bool:
        """Whether a slot is free in which the request's chain worked last, in the same lane."""
        return self._own(request) is not None

    def open(self, request: Request) -> tuple[Slot, int]:
        """Give the request a slot, and its row what any holds of the context; returns the slot and the tokens held.

        It is the slot in which its chain worked last, or else the one that has been free for longest.
        """
        context = request.context
        idle = (slot for slot in self.slots if not slot.busy)
        slot = self._own(request) or min(idle, key=lambda slot: slot.used)
        common = common_length(self._held[slot.row, : self._filled[slot.row]], context)
        if self._filled[slot.row] > common:  # what follows is about to be overwritten
            self._keep(slot)
            self.rewind(slot, common)
        self._clock += 1
        slot.chain, slot.lane, slot.busy = request.chain, request.lane, True
        slot.wanted, slot.used = True, self._clock
        return slot, self.borrow(slot, context)

    def borrow(self, slot: Slot, context: IntArray) -> int:
        """Copy to the slot's row what any row or store holds of its context by now; returns the tokens held."""
        shared = self._shared(context)
        source = int(shared.argmax())
        if shared[source] > self._filled[slot.row]:
            self._copy(source, slot.row, int(self._filled[slot.row]), int(shared[source]))
        return int(self._filled[slot.row])

    def rewind(self, slot: Slot, length: int) -> None:
        """Step back to the first ``length`` tokens of what the slot's row holds."""
        self._filled[slot.row] = min(self._filled[slot.row], length)

    def close(self, slot: Slot, context_length: int, wanted: bool) -> None:
        """Free the slot. Tokens after its context are forgotten if they are not ``wanted``."""
        self._clock += 1
        slot.busy, slot.wanted, slot.used = False, wanted, self._clock
        if not wanted:
            self.rewind(slot, context_length)

    def forget(self, slot: Slot) -> None:
        """Clear a row whose values may be NaN: a masked NaN would spoil whoever uses the row next."""
        for layer in self._layers:
            layer.keys[slot.row].zero_()
            layer.values[slot.row].zero_()
        self._filled[slot.row] = 0

    def likely(self, slot: Slot, position: int, width: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Scores and ids ``[width]`` of the most likely tokens to follow ``position``, if they are known."""
        if width > self._likely_scores.shape[2] or position >= self._filled[slot.row]:
            return None
        scores = self._likely_scores[slot.row, position, :width]
        return None if torch.isnan(scores[-1]) else (scores, self._likely_ids[slot.row, position, :width].long())

    def remember(self, slots: Sequence[Slot], scores: torch.Tensor, ids: torch.Tensor) -> None:
        """Keep the most likely next tokens ``[slots, K]``, best first, after each slot's last token."""
        width = min(scores.shape[1], self._likely_scores.shape[2])
        rows = np.array([slot.row for slot in slots])
        at = (torch.as_tensor(rows, device=self.device), torch.as_tensor(self._filled[rows] - 1, device=self.device))
        self._likely_scores[(*at, slice(0, width))] = scores[:, :width].to(self._likely_scores.dtype)
        self._likely_ids[(*at, slice(0, width))] = ids[:, :width].int()

    @torch.inference_mode()
    def advance(self, slots: Sequence[Slot], tokens: Sequence[IntArray], drawing: int) -> torch.Tensor:
        """Feed busy slots ``tokens``, at least one each, behind what their rows hold.

        Returns the logits ``[drawing, V]`` of what follows in the first ``drawing`` of them.
        """
        self._make_dense()
        feeds = [Feed(slot.row, int(self._filled[slot.row]), new) for slot, new in zip(slots, tokens, strict=True)]
        logits = self._pass(feeds, drawing, self._filled)
        for feed in feeds:
            self._held[feed.row, feed.start : feed.end] = feed.tokens
            self._likely_scores[feed.row, feed.start : feed.end] = torch.nan
            self._filled[feed.row] = feed.end
        return logits

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
        for layer in self._layers:
            layer.keys[target, :, start:end] = layer.keys[source, :, start:end]
            layer.values[target, :, start:end] = layer.values[source, :, start:end]
        for part in (self._likely_scores, self._likely_ids, self._held):
            part[target, start:end] = part[source, start:end]
        self._filled[target] = end

    def _make_dense(self) -> None:
        """Move busy rows down so that they are 0..R-1."""
        busy = [slot for slot in self.slots if slot.busy]
        gaps = [slot for slot in self.slots if not slot.busy and slot.row < len(busy)]
        high = [slot for slot in busy if slot.row >= len(busy)]
        for gap, slot in zip(gaps, high, strict=True):
            self._keep(gap)
            self._copy(slot.row, gap.row, 0, int(self._filled[slot.row]))
            slot.row, gap.row = gap.row, slot.row
            self._filled[gap.row] = 0


def common_length(a: IntArray, b: IntArray) -> int:
    """How many leading tokens two sequences share."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


def _layer_shapes(model: PreTrainedModel) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(heads, dim) of keys and values in each layer, seen in a forward pass of the model's own."""
    with torch.inference_mode():
        out = model(input_ids=torch.zeros((1, 2), dtype=torch.long, device=model.device), use_cache=True)
    cache = out.get(cache_name(model))
    if not isinstance(cache, DynamicCache) or not cache.layers:
        raise NoSlotsError(f"{type(model).__name__} keeps no key/value cache")
    odd = {type(layer).__name__ for layer in cache.layers if type(layer) is not DynamicLayer}
    if odd:
        raise NoSlotsError(f"{type(model).__name__} has layers that do not keep every token ({', '.join(sorted(odd))})")
    return [((k.shape[1], k.shape[3]), (v.shape[1], v.shape[3])) for k, v in ((c.keys, c.values) for c in cache.layers)]
