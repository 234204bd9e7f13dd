"""One request in the batch of the transformers engine, and the tokens that are drawn for many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence as Several
from typing import Any

import numpy as np
import torch

from powercut.engines.laws import Drawn, draw, next_token_law
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


@torch.inference_mode()
def draw_for(members: Several[Member], scores: torch.Tensor, ids: torch.Tensor | None) -> None:
    """Draw each member's next token from its scores ``[members, K]``; ``ids`` None: all tokens, in order."""
    device = scores.device
    temperature = [m.sequence.request.temperature for m in members]
    noise = [m.noise[m.sequence.count] for m in members]
    scores = _without_barred(members, scores, ids)
    law = next_token_law(scores.double(), torch.tensor(temperature, dtype=torch.float64, device=device))
    rows: list[Rows | None] = [None] * len(members)
    if ids is not None and any(member.sequence.request.rows for member in members):
        all_ids, all_logp = ids.int().cpu().numpy(), law.logp.float().cpu().numpy()
        rows = [Rows(all_ids[i : i + 1], all_logp[i : i + 1]) for i in range(len(members))]
    drawn = draw(law.logq, torch.tensor(noise, dtype=torch.float64, device=device))[:, None]
    drawn.clamp_(max=scores.shape[1] - 1)  # NaN rows draw past the end
    tokens = (drawn if ids is None else ids.gather(1, drawn)).cpu().numpy()
    laws = torch.stack((law.logp.gather(1, drawn)[:, 0], law.logq.gather(1, drawn)[:, 0], law.entropy))
    for member, token, column, row in zip(members, tokens, laws.T.cpu().numpy(), rows, strict=True):
        member.drawn = Drawn(token, column[:, None], row)


def _without_barred(members: Several[Member], scores: torch.Tensor, ids: torch.Tensor | None) -> torch.Tensor:
    """The scores with -inf for tokens that a request bars; a copy, since the cache remembers what it is given."""
    rows = [(row, barred) for row, member in enumerate(members) if (barred := member.sequence.barred)]
    if rows:
        scores = scores.clone()
    for row, barred in rows:
        if ids is None:
            scores[row, [token for token in barred if token < scores.shape[1]]] = -torch.inf
        else:
            scores[row, torch.isin(ids[row], torch.tensor(list(barred), device=ids.device))] = -torch.inf
        members[row].nothing_left = bool(scores[row].isneginf().all())
    return scores
