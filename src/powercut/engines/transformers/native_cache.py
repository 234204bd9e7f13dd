"""The slower path of the transformers engine: each request has a cache of the model's own making.

For models that do not decode right in slots (``choose_cache.py``): sliding windows, recurrent layers, no cache at all,
positions or masks of their own. Requests decode one after the other, and nothing is reused between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from powercut.engines.protocol import Request
from powercut.models.libraries import cache_name
from powercut.trace import IntArray


class NativeCache:
    """One request's tokens and the cache that the model returned for them: its slot."""

    def __init__(self) -> None:
        self.tokens = np.zeros(0, dtype=np.int64)
        self.cache: dict[str, Any] = {}


class NativeCaches:
    """Caches of up to ``slots`` requests at once; their memory is the model's own affair.

    Without ``reuse`` the model is given all tokens of a request each time.
    """

    nbytes = 0
    way = "one request at a time"
    whole_contexts = True
    """Not every model can go on with more than one token at a time."""
    shares = False

    def __init__(self, model: PreTrainedModel, slots: int, *, reuse: bool = True) -> None:
        self.model = model
        self._free = slots
        self._reuse = reuse
        self._name = cache_name(model)

    def free(self) -> int:
        """How many more requests may start."""
        return self._free

    def knows(self, request: Request) -> bool:
        """No cache outlives its request."""
        return False

    def open(self, request: Request) -> tuple[NativeCache, int]:
        """A fresh cache, which holds nothing of the context."""
        self._free -= 1
        return NativeCache(), 0

    def close(self, slot: NativeCache, context_length: int, wanted: bool) -> None:
        """Drop the cache."""
        self._free += 1
        slot.cache = {}

    def rewind(self, slot: NativeCache, length: int) -> int:
        """Nothing to step back from: a cache is fresh when it is opened."""
        return len(slot.tokens)

    def forget(self, slot: NativeCache) -> None:
        """Nothing to clear: no other request sees this cache."""

    def likely(self, slot: NativeCache, position: int, width: int) -> None:
        """No laws are kept."""
        return

    def remember(self, slots: Sequence[NativeCache], scores: torch.Tensor, ids: torch.Tensor) -> None:
        """No laws are kept."""

    def borrow(self, slot: NativeCache, context: IntArray) -> int:
        """Nothing can be had from others; returns the tokens held."""
        return len(slot.tokens)

    def most_likely(self, logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Cache``."""
        return torch.topk(logits, count, dim=-1)

    def advance(self, slots: Sequence[NativeCache], tokens: Sequence[IntArray], drawing: int) -> torch.Tensor:
        """Feed each slot its tokens; returns the logits ``[drawing, V]`` of what follows in the first ``drawing``."""
        logits = [self._forward(slot, new) for slot, new in zip(slots, tokens, strict=True)]
        return torch.stack(logits[:drawing]) if drawing else torch.empty(0)

    @torch.inference_mode()
    def _forward(self, slot: NativeCache, tokens: IntArray) -> torch.Tensor:
        slot.tokens = np.concatenate((slot.tokens, tokens))
        fed = tokens if slot.cache else slot.tokens
        out = self.model(
            input_ids=torch.tensor(fed, device=self.model.device)[None], use_cache=self._reuse, **slot.cache
        )
        # A model that returns no cache is given all its tokens again next time.
        cache = out.get(self._name)
        slot.cache = {} if cache is None or not self._reuse else {self._name: cache}
        logits: torch.Tensor = out.logits[0, -1]
        return logits
