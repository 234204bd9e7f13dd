"""An answer as /v1/responses gives it: text alone, and nothing is kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from powercut.server.refusals import refusal
from powercut.server.shape import Json, Shape, drawn, facts, finish_reason, usage

if TYPE_CHECKING:
    from powercut.server.ongoing import Ongoing


class ResponseShape(Shape):
    """``response``, or the stream of its events; ``n`` is 1."""

    prefix = "resp_"
    ends = None

    def __init__(self) -> None:
        super().__init__()
        self._item = self.id.replace("resp_", "msg_")

    async def whole(self, ongoing: Ongoing) -> Json:
        """The answer that is sent at once."""
        return self._response(ongoing)

    def opening(self, ongoing: Ongoing) -> Iterable[Json]:
        """A response, a message in it and a text in that begin."""
        for kind in ("response.created", "response.in_progress"):
            yield _event(kind, response=self._response(ongoing))
        yield _event("response.output_item.added", output_index=0, item=self._message("", "in_progress"))
        yield _event("response.content_part.added", **self._place(), part=_part(""))

    async def text(self, ongoing: Ongoing, index: int, text: str) -> Json:
        """More text."""
        return _event("response.output_text.delta", **self._place(), delta=text, logprobs=[])

    def end(self, ongoing: Ongoing, index: int) -> Iterable[Json]:
        """The text, the message and the response end."""
        text = ongoing.choices[0].text
        message = self._message(text, self._ending(ongoing))
        yield _event("response.output_text.done", **self._place(), text=text, logprobs=[])
        yield _event("response.content_part.done", **self._place(), part=_part(text))
        yield _event("response.output_item.done", output_index=0, item=message)
        response = self._response(ongoing)
        yield _event(f"response.{response['status']}", response=response)

    def failing(self, ongoing: Ongoing, error: BaseException) -> Json:
        """The event of an error in the middle of the stream."""
        why = refusal(error)
        response = {**self._response(ongoing), "status": "failed"}
        response["error"] = {"code": why.code or "server_error", "message": why.message}
        return _event("response.failed", response=response)

    def _place(self) -> Json:
        return {"item_id": self._item, "output_index": 0, "content_index": 0}

    def _message(self, text: str, status: str) -> Json:
        content = [] if status == "in_progress" else [_part(text)]
        return {"id": self._item, "type": "message", "role": "assistant", "status": status, "content": content}

    def _ending(self, ongoing: Ongoing) -> str:
        return "completed" if finish_reason(ongoing.choices[0]) == "stop" else "incomplete"

    def _response(self, ongoing: Ongoing) -> Json:
        [choice] = ongoing.choices
        response = {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "model": ongoing.order.model,
            "status": "in_progress",
            "output": [],
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": False,
            "temperature": None,
            "tool_choice": "none",
            "tools": [],
            "top_p": None,
            "store": False,
            "usage": None,
        }
        if choice.completion is None:
            return response
        status = self._ending(ongoing)
        used = usage(ongoing)
        return response | {
            "status": status,
            "incomplete_details": None if status == "completed" else {"reason": "max_output_tokens"},
            "output": [self._message(choice.text, status)],
            "usage": {
                "input_tokens": used["prompt_tokens"],
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": used["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": 0, "decoded_tokens": drawn(choice).stats.tokens_decoded},
                "total_tokens": used["total_tokens"],
            },
            "powercut": facts(ongoing, [choice]),
        }


def _event(kind: str, **fields: object) -> Json:
    return {"type": kind, **fields}


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
