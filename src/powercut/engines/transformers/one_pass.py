"""How new tokens of several rows of the cache go through the model together.

*Flattened*, which most models allow: all tokens stand in one line, so that each weight is read once for newcomers and
decoders alike. Only attention looks at a token's neighbours, and it is done here, for each row by itself. *By row*, for
models whose attention cannot be replaced: long pieces one after the other, then the last token of each row together.
Which of the two is right for a model is tried out on it (``choose_cache.py``).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from powercut.engines.batching.slots import Feed
from powercut.models.libraries import cache_name
from powercut.trace import IntArray


class NoSlotsError(Exception):
    """The model does not decode right in slots, or not in this way; the text says why."""


class Window:
    """What the layers write and show in one forward pass: ``[first:last, :, :length]`` of their rows.

    New keys and values go to ``rows`` and ``positions``, two index tensors that broadcast to the shape of the tokens.
    """

    first = last = length = 0
    rows: torch.Tensor
    positions: torch.Tensor
    shown: torch.Tensor
    """The keys that the layer whose turn it is showed."""


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values ``[rows, heads, length, dim]``; writes new ones in place and shows the window."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, window: Window) -> None:
        super().__init__()
        self.keys, self.values, self.window = keys, values, window
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: the memory was taken when the engine was loaded."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write ``[batch, heads, new, dim]`` where the window says, and show what lies in it."""
        w = self.window
        # Indexed dimensions that are not neighbours come first: [batch, new, heads, dim].
        self.keys[w.rows, :, w.positions] = key_states.transpose(1, 2)
        self.values[w.rows, :, w.positions] = value_states.transpose(1, 2)
        w.shown = self.keys[w.first : w.last, :, : w.length]
        return w.shown, self.values[w.first : w.last, :, : w.length]

    def get_seq_length(self) -> int:
        """Tokens in the window before this pass; every caller that matters is given position ids instead."""
        return max(0, self.window.length - self.window.positions.shape[1])

    def get_mask_sizes(self, query_length: Any) -> tuple[int, int]:
        """Length and offset of the keys shown; masks are given ready made."""
        return self.window.length, 0

    def get_max_length(self) -> int:
        """How many tokens a slot holds."""
        return int(self.keys.shape[2])

    get_max_cache_shape = get_max_length


class OnePass:
    """Feeds rows of ``layers``, whose window it moves, to ``model``. ``way`` says in words how."""

    way: str

    def __init__(self, model: PreTrainedModel, layers: Sequence[SlotLayer], window: Window) -> None:
        self.model: Any = model
        self.device = model.device
        self.window = window
        self._cache = {cache_name(model): Cache(layers=list(layers))}

    def __call__(self, feeds: Sequence[Feed], drawing: int, filled: IntArray) -> torch.Tensor:
        """Compute all ``feeds``; returns the logits ``[drawing, V]`` after the first ``drawing`` of them.

        ``filled`` says how many tokens each row of the cache holds before; the rows of a pass lie among dense ones.
        """
        raise NotImplementedError

    def _run(self, model: Any, tokens: IntArray, mask: torch.Tensor, **options: Any) -> Any:
        """Compute ``tokens`` ``[batch, new]`` at the window's positions."""
        return model(
            input_ids=torch.tensor(tokens, device=self.device),
            position_ids=self.window.positions,
            attention_mask=mask,
            use_cache=True,
            **self._cache,
            **options,
        )

    def _hide(self, hidden: torch.Tensor) -> torch.Tensor:
        """The mask that ``hidden`` says, as numbers to add: some models add a boolean one to the scores as 0 and 1."""
        mask = torch.zeros(hidden.shape, dtype=self.model.dtype, device=self.device)
        return mask.masked_fill_(hidden, torch.finfo(mask.dtype).min)


class ByRow(OnePass):
    """Long pieces one after the other, then one token of each row that draws, in one batch."""

    way = "row by row"

    def __call__(self, feeds: Sequence[Feed], drawing: int, filled: IntArray) -> torch.Tensor:
        """See ``OnePass``."""
        lasts = []
        for i, (row, start, tokens) in enumerate(feeds):
            if i < drawing:
                lasts.append(Feed(row, start + len(tokens) - 1, tokens[-1:]))
                tokens = tokens[:-1]
            if len(tokens):
                positions = torch.arange(start, start + len(tokens), device=self.device)[None]
                self._look(row, row + 1, positions)
                self._forward(self.model.base_model, tokens[None], self._hidden())
        if not lasts:
            return torch.empty(0)
        # Rows between those that draw get a token, behind what they hold, that nobody will read: they have room for it.
        last = 1 + max(feed.row for feed in lasts)
        starts, new = filled.copy(), np.zeros((last, 1), dtype=np.int64)
        for feed in feeds:
            starts[feed.row] = feed.end
        for row, start, tokens in lasts:
            starts[row], new[row] = start, tokens
        starts = starts[:last]
        self._look(0, last, torch.as_tensor(starts, device=self.device)[:, None])
        logits: torch.Tensor = self._forward(self.model, new, self._hidden()).logits[:, -1]
        return logits[torch.tensor([feed.row for feed in lasts], device=self.device)]

    def _forward(self, model: Any, tokens: IntArray, hidden: torch.Tensor) -> Any:
        """Compute ``tokens`` ``[rows, new]``, which see what is not ``hidden`` ``[rows, 1, new, length]``."""
        return self._run(model, tokens, self._hide(hidden))

    def _look(self, first: int, last: int, positions: torch.Tensor) -> None:
        w = self.window
        w.first, w.last, w.length = first, last, int(positions.max()) + 1
        w.rows, w.positions = torch.arange(first, last, device=self.device)[:, None], positions

    def _hidden(self) -> torch.Tensor:
        after = torch.arange(self.window.length, device=self.device)
        return (after > self.window.positions[:, :, None])[:, None]


@dataclass(frozen=True, slots=True)
class _Single:
    """The first ``count`` tokens of a line are one of each of ``rows``, all below ``last``."""

    count: int
    last: int
    rows: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Piece:
    """Tokens ``first..end-1`` of a line are new ones of ``row``, which holds ``length`` tokens with them."""

    first: int
    end: int
    row: int
    length: int
    mask: torch.Tensor | None


class Flattened(OnePass):
    """All tokens in one line. Raises NoSlotsError for a model that cannot be fed so."""

    way = "in one line"

    def __init__(self, model: PreTrainedModel, layers: Sequence[SlotLayer], window: Window) -> None:
        super().__init__(model, layers, window)
        if model.config._attn_implementation != "sdpa":
            raise NoSlotsError(f"{type(model).__name__} has attention of its own")
        if "logits_to_keep" not in inspect.signature(model.forward).parameters:
            raise NoSlotsError(f"{type(model).__name__} computes the logits of every token")
        self._longest = layers[0].get_max_length()

    def __call__(self, feeds: Sequence[Feed], drawing: int, filled: IntArray) -> torch.Tensor:
        """See ``OnePass``."""
        order = sorted(range(len(feeds)), key=lambda i: (len(feeds[i].tokens) > 1, feeds[i].row))
        line = [feeds[i] for i in order]
        w = self.window
        w.first, w.last, w.length = 0, len(filled), self._longest
        rows = np.concatenate([np.full(len(feed.tokens), feed.row) for feed in line])
        positions = np.concatenate([np.arange(feed.start, feed.end) for feed in line])
        w.rows, w.positions = (torch.as_tensor(x, device=self.device)[None] for x in (rows, positions))
        tokens = np.concatenate([feed.tokens for feed in line])[None]
        ends = np.empty(len(feeds), dtype=np.int64)
        ends[order] = np.cumsum([len(feed.tokens) for feed in line]) - 1
        config = self.model.config
        config._attn_implementation = ATTENTION
        token = _line.set((self._attended(line), w))
        try:
            nothing = torch.zeros(1, 1, 1, 1, dtype=self.model.dtype, device=self.device)  # or it would make a mask
            if not drawing:
                self._run(self.model.base_model, tokens, nothing)
                return torch.empty(0)
            kept = torch.as_tensor(ends[:drawing], device=self.device)
            logits: torch.Tensor = self._run(self.model, tokens, nothing, logits_to_keep=kept).logits[0]
            return logits
        finally:
            _line.reset(token)
            config._attn_implementation = "sdpa"

    def _attended(self, line: Sequence[Feed]) -> list[_Single | _Piece]:
        """Which tokens attend together: the single ones of many rows, and each longer piece by itself."""
        parts: list[_Single | _Piece] = []
        singles = [feed for feed in line if len(feed.tokens) == 1]
        if singles:
            rows = torch.tensor([feed.row for feed in singles], device=self.device)
            starts = torch.zeros(singles[-1].row + 1, dtype=torch.long, device=self.device)
            starts[rows] = torch.tensor([feed.start for feed in singles], device=self.device)
            seen = torch.arange(max(feed.end for feed in singles), device=self.device)
            parts.append(_Single(len(singles), len(starts), rows, self._hide(seen > starts[:, None])[:, None, None]))
        first = len(singles)
        for row, start, tokens in line[first:]:
            end = start + len(tokens)
            seen, mask = torch.arange(end, device=self.device), None
            if start:  # else it is plainly causal, which torch computes in half the time
                mask = self._hide(seen > seen[start:, None])[None, None]
            parts.append(_Piece(first, first + len(tokens), row, end, mask))
            first += len(tokens)
        return parts


ATTENTION = "powercut-flattened"
"""Under this name transformers finds the attention below; a model has it while one of its passes runs."""

_line: ContextVar[tuple[list[_Single | _Piece], Window] | None] = ContextVar("line", default=None)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a line ``[1, heads, tokens, dim]`` over whole layers; returns ``[1, tokens, heads, dim]``.

    Another thread that computes with the same model meanwhile gets what it would have got.
    """
    line = _line.get()
    if line is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    parts, window = line
    if key is not window.shown:  # then it would be done to the whole cache, each time
        raise NoSlotsError("keys are changed after they are cached")
    options |= {"is_causal": True}
    out = []
    for part in parts:
        if isinstance(part, _Piece):
            q, mask = query[:, :, part.first : part.end], part.mask
            k, v = (x[part.row : part.row + 1, :, : part.length] for x in (key, value))
            out.append(sdpa_attention_forward(module, q, k, v, mask, **options)[0])
            continue
        # Rows between them get a query that nobody asked: a gap would make torch copy keys and values.
        new = query[0, :, : part.count].transpose(0, 1)[:, :, None]
        q = new.new_zeros(part.last, *new.shape[1:]).index_copy_(0, part.rows, new)
        k, v = (x[: part.last, :, : part.mask.shape[-1]] for x in (key, value))
        each = sdpa_attention_forward(module, q, k, v, part.mask, **options)[0]
        out.append(each[part.rows].transpose(0, 1))
    return torch.cat(out, dim=1), None


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
