"""What the forms of an answer have in common: its whole, or the events of its stream; what was drawn, and its cost."""

from __future__ import annotations

import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from powercut.records import measures
from powercut.server.choice import Choice
from powercut.server.refusals import refusal
from powercut.strict_json import strict
from powercut.trace import Completion

if TYPE_CHECKING:
    from powercut.server.ongoing import Ongoing

Json = dict[str, Any]


class Shape(ABC):
    """An answer in the form of one of OpenAI's endpoints, with an ``id`` of its own.

    ``ends`` is what a stream sends after its last event.
    """

    prefix = ""
    ends: str | None = "[DONE]"

    def __init__(self) -> None:
        self.id = f"{self.prefix}{secrets.token_hex(16)}"
        self.created = int(time.time())

    @abstractmethod
    async def whole(self, ongoing: Ongoing) -> Json:
        """The answer that is sent at once, when all choices are drawn."""

    def opening(self, ongoing: Ongoing) -> Iterable[Json]:
        """The events before there is any text."""
        return ()

    @abstractmethod
    async def text(self, ongoing: Ongoing, index: int, text: str) -> Json:
        """The event of more text of a choice; of all of it, if the choice is drawn."""

    @abstractmethod
    def end(self, ongoing: Ongoing, index: int) -> Iterable[Json]:
        """The events at the end of a choice."""

    def closing(self, ongoing: Ongoing) -> Iterable[Json]:
        """The events at the end of a stream."""
        return ()

    def failing(self, ongoing: Ongoing, error: BaseException) -> Json:
        """The event of an error in the middle of the stream."""
        return refusal(error).body

    def progress(self, ongoing: Ongoing, index: int, line: str) -> Json | None:
        """The event of a line about the chain; None where the form has no place for it, and it is sent as a comment."""
        return None


def drawn(choice: Choice) -> Completion:
    """The completion of a choice that is done."""
    assert choice.completion is not None
    return choice.completion


def finish_reason(choice: Choice) -> str:
    """``stop`` if the text ended by itself or with a stop, ``length`` if it was cut off."""
    return "stop" if drawn(choice).finished else "length"


def usage(ongoing: Ongoing) -> Json:
    """Tokens of the prompts, of the texts that are returned, and all that were decoded for these."""
    read = sum(map(len, ongoing.order.prompts))
    kept = sum(len(drawn(choice).tokens) for choice in ongoing.choices)
    decoded = sum(drawn(choice).stats.tokens_decoded for choice in ongoing.choices)
    details = {"decoded_tokens": decoded}
    return {
        "prompt_tokens": read,
        "completion_tokens": kept,
        "total_tokens": read + kept,
        "completion_tokens_details": details,
    }


def facts(ongoing: Ongoing, choices: Sequence[Choice]) -> Json:
    """The object ``powercut`` of an answer: what its choices were drawn with, what became of them, and the cost."""
    order = ongoing.order
    nothing = {"logp": None, "entropy": None}  # of a choice that has no text
    return dict(
        strict(
            {
                "sampler": order.sampler_name,
                "settings": order.sampler,
                "seed": order.seed,
                "unused": order.unused,
                "notes": order.notes,
                **({} if ongoing.view is None else {"view": ongoing.view.path}),
                "stopped": next((choice.stopped for choice in choices if choice.stopped), None),
                "choices": [
                    {
                        **measures(drawn(choice)),
                        **({} if choice.refusal is None else nothing),
                        "stopped": choice.stopped,
                        "stands": choice.refusal is None,
                    }
                    for choice in choices
                ],
            }
        )
    )


def state(choice: Choice) -> str:
    """A line about where a chain is, after its first event."""
    assert choice.event is not None
    event = choice.event
    line = f"stage {event.stage + 1}/{event.stages}"
    if choice.steps:
        line += f", {len(choice.steps)} steps, {choice.accepted} accepted, {choice.moved} changed the text"
    return f"{line}, {len(event.trace)} tokens"


def encoded(value: Any) -> bytes:
    """JSON in UTF-8; half a character, which a client may have sent, comes back as its escape."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
