"""The slower path of the transformers engine: each request has a cache of the model's own making.

For models whose cache cannot be laid out in slots (sliding windows, recurrent layers, no cache at all). Same calls as
``Slots``; requests decode one after the other, and nothing is reused between them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from powercut.models.libraries import cache_name
from powercut.trace import IntArray


class Lane:
    """One request's tokens and the cache that the model returned for them."""

    def __init__(self) -> None:
        self.tokens = np.zeros(0, dtype=np.int64)
        self.cache: dict[str, Any] = {}


class NativeCaches:
    """Caches of up to ``slots`` requests at once; their memory is the model's own affair."""

    nbytes = 0

    def __init__(self, model: PreTrainedModel, slots: int) -> None:
        self.model = model
        self._free = slots
        self._name = cache_name(model)

    def free(self) -> int:
        """How many more requests may start."""
        return self._free

    def knows(self, session: Hashable | None) -> bool:
        """No lane outlives its request."""
        return False

    def open(self, context: IntArray, session: Hashable | None) -> tuple[Lane, int]:
        """A fresh lane, which holds nothing of the context."""
        self._free -= 1
        return Lane(), 0

    def close(self, lane: Lane, context_length: int, wanted: bool) -> None:
        """Drop the lane's cache."""
        self._free += 1
        lane.cache = {}

    def rewind(self, lane: Lane, length: int) -> None:
        """Nothing to step back from: a lane is fresh when it is opened."""

    def forget(self, lane: Lane) -> None:
        """Nothing to clear: no other request sees this cache."""

    def head(self, lane: Lane, position: int, width: int) -> None:
        """No laws are kept."""
        return

    def remember(self, lanes: Sequence[Lane], scores: torch.Tensor, ids: torch.Tensor) -> None:
        """No laws are kept."""

    def prefill(self, lane: Lane, tokens: IntArray) -> None:
        """Compute ``tokens`` behind what the lane holds."""
        self._forward(lane, tokens)

    def decode(self, lanes: Sequence[Lane], tokens: IntArray) -> torch.Tensor:
        """Feed one token to each lane; returns the next-token logits ``[lanes, V]``."""
        return torch.stack([self._forward(lane, tokens[i : i + 1]) for i, lane in enumerate(lanes)])

    @torch.inference_mode()
    def _forward(self, lane: Lane, tokens: IntArray) -> torch.Tensor:
        lane.tokens = np.concatenate((lane.tokens, tokens))
        fed = tokens if lane.cache else lane.tokens
        out = self.model(input_ids=torch.tensor(fed, device=self.model.device)[None], use_cache=True, **lane.cache)
        # A model that returns no cache is given all its tokens again next time.
        cache = out.get(self._name)
        lane.cache = {} if cache is None else {self._name: cache}
        logits: torch.Tensor = out.logits[0, -1]
        return logits
