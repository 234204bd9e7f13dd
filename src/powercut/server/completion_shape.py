"""An answer as /v1/completions gives it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from powercut.server.logprobs import completion_logprobs
from powercut.server.shape import Json, Shape, drawn, facts, finish_reason, usage

if TYPE_CHECKING:
    from powercut.server.ongoing import Ongoing


class CompletionShape(Shape):
    """``text_completion``, whole or as a stream. ``echoed`` are the prompts' texts, where texts begin with these."""

    prefix = "cmpl-"

    def __init__(self, echoed: Sequence[str] | None = None) -> None:
        super().__init__()
        self._echoed = echoed

    async def whole(self, ongoing: Ongoing) -> Json:
        """The answer that is sent at once."""
        choices = []
        for index, choice in enumerate(ongoing.choices):
            text = self._before(ongoing, index) + choice.text
            logprobs = await self._logprobs(ongoing, index)
            choices.append(_choice(index, text, finish_reason(choice), logprobs))
        facts_of_all = facts(ongoing, ongoing.choices)
        return {**self._object(ongoing, choices), "usage": usage(ongoing), "powercut": facts_of_all}

    def opening(self, ongoing: Ongoing) -> Iterable[Json]:
        """The prompts, if they are asked for, else nothing: each choice has a first event."""
        for index in range(len(ongoing.choices)):
            yield self._chunk(ongoing, _choice(index, self._before(ongoing, index), None, None))

    async def text(self, ongoing: Ongoing, index: int, text: str) -> Json:
        """More text, with log-probabilities if they were asked for: then all of it is sent at once."""
        done = ongoing.choices[index].completion is not None
        return self._chunk(ongoing, _choice(index, text, None, await self._logprobs(ongoing, index) if done else None))

    def end(self, ongoing: Ongoing, index: int) -> Iterable[Json]:
        """Why the text ends, and the facts about it."""
        choice = ongoing.choices[index]
        chunk = self._chunk(ongoing, _choice(index, "", finish_reason(choice), None))
        yield {**chunk, "powercut": facts(ongoing, [choice])}

    def closing(self, ongoing: Ongoing) -> Iterable[Json]:
        """The usage, if it was asked for."""
        if ongoing.order.include_usage:
            yield {**self._object(ongoing, []), "usage": usage(ongoing)}

    def _before(self, ongoing: Ongoing, index: int) -> str:
        return "" if self._echoed is None else self._echoed[ongoing.choices[index].place[0]]

    async def _logprobs(self, ongoing: Ongoing, index: int) -> Json | None:
        order, choice = ongoing.order, ongoing.choices[index]
        if not order.logprobs:
            return None
        return await completion_logprobs(ongoing.text, drawn(choice), choice, order.top_logprobs)

    def _chunk(self, ongoing: Ongoing, choice: Json) -> Json:
        chunk = self._object(ongoing, [choice])
        return {**chunk, "usage": None} if ongoing.order.include_usage else chunk

    def _object(self, ongoing: Ongoing, choices: list[Any]) -> Json:
        kind, model = "text_completion", ongoing.order.model
        return {"id": self.id, "object": kind, "created": self.created, "model": model, "choices": choices}


def _choice(index: int, text: str, reason: str | None, logprobs: Json | None) -> Json:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
