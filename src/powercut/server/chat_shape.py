"""An answer as /v1/chat/completions gives it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from powercut.server.logprobs import chat_logprobs
from powercut.server.shape import Json, Shape, drawn, facts, finish_reason, usage

if TYPE_CHECKING:
    from powercut.server.ongoing import Ongoing


class ChatShape(Shape):
    """``chat.completion``, or a stream of ``chat.completion.chunk``: role, text, reason of the end, usage."""

    prefix = "chatcmpl-"

    async def whole(self, ongoing: Ongoing) -> Json:
        """The answer that is sent at once."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": await self._logprobs(ongoing, index),
                "finish_reason": finish_reason(choice),
            }
            for index, choice in enumerate(ongoing.choices)
        ]
        answer = self._object(ongoing, "chat.completion", choices)
        return {**answer, "usage": usage(ongoing), "powercut": facts(ongoing, ongoing.choices)}

    def opening(self, ongoing: Ongoing) -> Iterable[Json]:
        """The role of each choice."""
        for index in range(len(ongoing.choices)):
            yield self._chunk(ongoing, index, {"role": "assistant", "content": ""})

    async def text(self, ongoing: Ongoing, index: int, text: str) -> Json:
        """More text, with log-probabilities if they were asked for: then all of it is sent at once."""
        done = ongoing.choices[index].completion is not None
        logprobs = await self._logprobs(ongoing, index) if done else None
        return self._chunk(ongoing, index, {"content": text}, logprobs=logprobs)

    def end(self, ongoing: Ongoing, index: int) -> Iterable[Json]:
        """Why the text ends, and the facts about it."""
        choice = ongoing.choices[index]
        chunk = self._chunk(ongoing, index, {}, finish_reason(choice))
        yield {**chunk, "powercut": facts(ongoing, [choice])}

    def closing(self, ongoing: Ongoing) -> Iterable[Json]:
        """The usage, if it was asked for."""
        if ongoing.order.include_usage:
            yield {**self._object(ongoing, "chat.completion.chunk", []), "usage": usage(ongoing)}

    def progress(self, ongoing: Ongoing, index: int, line: str) -> Json | None:
        """What the chain does, where clients show what a model thinks."""
        return self._chunk(ongoing, index, {"reasoning_content": line + "\n"})

    async def _logprobs(self, ongoing: Ongoing, index: int) -> Json | None:
        order, choice = ongoing.order, ongoing.choices[index]
        if not order.logprobs:
            return None
        return await chat_logprobs(ongoing.text, drawn(choice), choice, order.top_logprobs)

    def _chunk(
        self, ongoing: Ongoing, index: int, delta: Json, reason: str | None = None, logprobs: Json | None = None
    ) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        chunk = self._object(ongoing, "chat.completion.chunk", [choice])
        return {**chunk, "usage": None} if ongoing.order.include_usage else chunk

    def _object(self, ongoing: Ongoing, kind: str, choices: list[Any]) -> Json:
        model = ongoing.order.model
        return {"id": self.id, "object": kind, "created": self.created, "model": model, "choices": choices}
