"""What a batch needs of the cache in which its requests decode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from powercut.engines.protocol import Request
from powercut.trace import IntArray


class Cache(Protocol):
    """Places in which requests decode, and the model that goes on there.

    A *slot* is whatever the cache hands out for one request; the batch only passes it back. Arrays are numpy's or
    torch's, as the model's are. None of this is called while ``advance`` runs, other than from inside it.
    """

    whole_contexts: bool
    """Whether a context must be fed in one piece."""
    shares: bool
    """Whether a slot can have what others hold of a context."""

    def free(self) -> int:
        """How many slots are free."""

    def knows(self, request: Request) -> bool:
        """Whether the request has a slot of its own that is free: what its chain did last is there."""

    def open(self, request: Request) -> tuple[Any, int]:
        """A slot for the request, and how many tokens of its context it holds."""

    def borrow(self, slot: Any, context: IntArray) -> int:
        """Take over what others hold of the context by now; returns the tokens held."""

    def rewind(self, slot: Any, length: int) -> int:
        """Step back to the first ``length`` tokens of what the slot holds, or as far as it can; returns those held."""

    def close(self, slot: Any, context_length: int, wanted: bool) -> None:
        """Free the slot. Tokens after its context need not be kept if they are not ``wanted``."""

    def forget(self, slot: Any) -> None:
        """Clear what the slot holds: it may be NaN."""

    def likely(self, slot: Any, position: int, width: int) -> tuple[Any, Any] | None:
        """Scores and ids ``[width]`` of the most likely tokens to follow ``position``, if they are known."""

    def remember(self, slots: Sequence[Any], scores: Any, ids: Any) -> None:
        """Keep the most likely next tokens ``[slots, K]``, best first, after each slot's last token."""

    def advance(self, slots: Sequence[Any], tokens: Sequence[IntArray], drawing: int) -> Any:
        """Feed each slot its tokens, at least one.

        Returns the logits ``[drawing, V]`` of what follows in the first ``drawing`` of them, for use before the next
        call.
        """

    def most_likely(self, logits: Any, count: int) -> tuple[Any, Any]:
        """The ``count`` largest of each row of logits ``[rows, V]``, best first, and their ids: ``[rows, count]``."""
