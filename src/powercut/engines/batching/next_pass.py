"""Who takes part in the next forward pass, and with how many tokens.

Whoever decodes takes part in each pass. Newcomers' contexts go along in pieces, so small that nobody who decodes waits
longer for a token than two passes without newcomers take. While nobody decodes, the pieces are as large as memory
allows, and those who are ready wait until all are, to decode together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from powercut.engines.batching.member import Member

MOST_TOKENS = 512
"""Most context tokens in one pass, so that activations stay small beside the cache."""

FIRST_TOKENS = 32
"""Context tokens beside those who decode, as long as nobody knows how long they take."""

STALL = 1.8
"""How long a pass with newcomers should take, in passes without: less than two, since times vary."""

MEMORY = 7
"""How many passes of each kind are remembered: an odd one out does not move their median."""


class Pace:
    """How many context tokens a pass may compute beside those who decode, from the seconds that passes took."""

    def __init__(self) -> None:
        self._without: deque[float] = deque(maxlen=MEMORY)
        self._each: deque[float] = deque(maxlen=MEMORY)

    def took(self, seconds: float, context_tokens: int) -> None:
        """A pass in which somebody decoded took ``seconds``."""
        if not context_tokens:
            self._without.append(seconds)
        elif self._without:
            self._each.append((seconds - median(self._without)) / context_tokens)

    @property
    def tokens(self) -> int:
        """How many context tokens the next one may have, 1 to MOST_TOKENS."""
        if not self._each:
            return FIRST_TOKENS
        room, each = (STALL - 1) * median(self._without), median(self._each)
        return MOST_TOKENS if each * MOST_TOKENS <= room else max(1, int(room / each))


class Part(NamedTuple):
    """A member's part in a pass: ``size`` tokens; it draws if they are all that it has to feed."""

    member: Member
    size: int

    @property
    def draws(self) -> bool:
        """Whether a token is drawn after them."""
        return self.size == len(self.member.to_feed)


def next_pass(members: Sequence[Member], pace: Pace, *, whole_contexts: bool) -> list[Part]:
    """The parts of the next pass; there are some if there are members. ``whole_contexts``: none is cut in pieces."""
    ready = [member for member in members if len(member.to_feed) == 1]
    newcomers = [member for member in members if len(member.to_feed) > 1]
    if not newcomers:
        return [Part(member, 1) for member in ready]
    decoding = any(member.drawn is not None for member in ready)
    left = 0 if decoding else 1  # the last token is fed when all decode together
    parts = [Part(member, 1) for member in ready] if decoding else []
    room = pace.tokens if decoding else MOST_TOKENS
    for member in _unhindered(newcomers):
        wanted = len(member.to_feed) - left
        parts.append(Part(member, wanted if whole_contexts else min(wanted, room)))
        room -= wanted
        if room <= 0:
            break
    return parts


def _unhindered(newcomers: Sequence[Member]) -> Iterator[Member]:
    """Those for whom nobody else is about to compute what they need."""
    present = set(newcomers)
    for member in newcomers:
        worth = (other for other, shared in member.after if other.cached < shared)
        if present.isdisjoint(worth):
            yield member
