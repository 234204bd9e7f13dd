"""The KV cache of the transformers engine: slots whose rows and stores are entries of one tensor a layer.

Each layer has one tensor ``[2 * slots, heads, length, dim]``: rows are its first half, stores the second. The busy rows
are kept dense, so that they decode together as one zero-copy view. Copying costs about a hundredth of prefilling the
same tokens (``benchmarks/engine.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from powercut.engines.batching.slots import LIKELY_KEPT, Feed, Slot, Slots
from powercut.engines.transformers.one_pass import NoSlotsError, OnePass, SlotLayer, Window
from powercut.models.libraries import cache_name
from powercut.trace import IntArray


class TensorSlots(Slots):
    """KV cache of ``2 * slots`` sequences of up to ``length`` tokens for ``model``; all memory is taken here.

    ``way`` is how the model is fed. Raises NoSlotsError where the model keeps anything but plain keys and values of
    every token, or cannot be fed so.
    """

    def __init__(self, model: PreTrainedModel, slots: int, length: int, way: type[OnePass]) -> None:
        shapes = _layer_shapes(model)
        device = model.device
        window = Window()
        with torch.inference_mode(False):  # or they could not be written to outside it
            kinds = {"dtype": model.dtype, "device": device}
            self._layers = [
                SlotLayer(
                    torch.zeros(2 * slots, k_heads, length, k_dim, **kinds),
                    torch.zeros(2 * slots, v_heads, length, v_dim, **kinds),
                    window,
                )
                for (k_heads, k_dim), (v_heads, v_dim) in shapes
            ]
            shape = (2 * slots, length, min(LIKELY_KEPT, model.config.get_text_config().vocab_size))
            scores = torch.promote_types(model.dtype, torch.float32)
            super().__init__(
                slots,
                length,
                torch.full(shape, torch.nan, dtype=scores, device=device),
                torch.zeros(shape, dtype=torch.int32, device=device),
            )
        self._pass = way(model, self._layers, window)
        self.way = way.way

    @property
    def nbytes(self) -> int:
        """Memory taken, in bytes."""
        tensors = [t for layer in self._layers for t in (layer.keys, layer.values)]
        return sum(t.numel() * t.element_size() for t in (*tensors, self._likely_scores, self._likely_ids))

    def most_likely(self, logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Cache``."""
        return torch.topk(logits, count, dim=-1)

    def forget(self, slot: Slot) -> None:
        """See ``Slots``."""
        for layer in self._layers:
            layer.keys[slot.row].zero_()
            layer.values[slot.row].zero_()
        self._filled[slot.row] = 0

    @torch.inference_mode()
    def advance(self, slots: Sequence[Slot], tokens: Sequence[IntArray], drawing: int) -> torch.Tensor:
        """See ``Slots``."""
        self._make_dense()
        return super().advance(slots, tokens, drawing)

    def _compute(self, feeds: Sequence[Feed], drawing: int) -> torch.Tensor:
        return self._pass(feeds, drawing, self._filled)

    def _duplicate(self, source: int, target: int, start: int, end: int) -> None:
        for layer in self._layers:
            layer.keys[target, :, start:end] = layer.keys[source, :, start:end]
            layer.values[target, :, start:end] = layer.values[source, :, start:end]

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
