"""What goes wrong for a client, as OpenAI's clients read it: a status, and an ``error`` object."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from typing import Any

from powercut.errors import BudgetError, ContextLengthError, EngineError, SettingError, one_line

log = logging.getLogger("powercut")

NO_RETRY = {"x-should-retry": "false"}
"""Tells OpenAI's clients that the same request would fare the same."""

SPELT = {"temperature": "proposal_temperature", "n": "best_of", "template_args": "chat_template_kwargs"}
"""What has another name in a request than in powercut."""


class Refusal(Exception):  # noqa: N818  # an answer
    """An answer that is an error. ``param`` is the field of the request that it is about, if it is about one."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def unusable(error: SettingError, fields: Collection[str] = (), prompt: str = "prompt") -> Refusal:
    """The refusal of a request whose fields cannot be used; an error's text begins with the setting that it is about.

    ``fields`` are those that the request has, ``prompt`` is the one that holds its prompt.
    """
    if isinstance(error, ContextLengthError):
        message = f"This goes beyond the model's maximum context length: {error}"
        return Refusal(400, message, param=prompt, code="context_length_exceeded")
    name, rest = re.fullmatch(r"(\w*)(.*)", str(error), re.DOTALL).groups()  # type: ignore[union-attr]
    spelt = SPELT.get(name, name)
    if spelt in fields:
        return Refusal(400, spelt + rest, param=spelt)
    if name == "max_new_tokens" and (given := {"max_tokens", "max_completion_tokens", "max_output_tokens"} & {*fields}):
        return Refusal(400, str(error), param=min(given))
    half = re.match(r"character \d+ of (a stop string|template_args)", str(error))
    if half:
        return Refusal(400, str(error), param="stop" if half[1] == "a stop string" else SPELT[half[1]])
    about_prompt = re.match(r"the prompt|the model's chat template|a (chat )?message|messages |character ", str(error))
    return Refusal(400, str(error), param=prompt if about_prompt else None)


def refusal(error: BaseException) -> Refusal:
    """What a client is told of an error that came up while its answer was drawn."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, SettingError):
        return unusable(error)
    if isinstance(error, BudgetError):
        return Refusal(422, str(error), kind="sampler_error", code="not_accepted", headers=NO_RETRY)
    if isinstance(error, EngineError):
        return Refusal(503, one_line(error), kind="server_error", code="engine_failed")
    log.error("a request failed: %s: %s", type(error).__name__, one_line(error), exc_info=error)
    return Refusal(500, f"a bug in the server ({type(error).__name__}): its log says more", kind="server_error")
