"""A conversation as OpenAI's clients send it, as plain turns of text that a chat template takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from powercut.errors import SettingError
from powercut.integrations.foreign import read_messages
from powercut.prompt import Message
from powercut.server.bodies import ChatMessage

_ROLES = {"developer": "system", "tool": "user", "function": "user"}
"""Roles that few templates know, and those that say the same."""

_REASONING = {"reasoning", "thinking", "refusal"}


def plain_messages(messages: Iterable[ChatMessage]) -> list[Message]:
    """Turns with a role and one text each.

    Calls of tools and their results are texts in <tool_call> and <tool_response>, as the templates of many models have
    them. Raises SettingError for images, audio and files.
    """
    return read_messages([{"role": _ROLES.get(each.role, each.role), "content": _content(each)} for each in messages])


def input_messages(given: str | list[dict[str, Any]], instructions: str | None) -> list[ChatMessage]:
    """The conversation of a request of /v1/responses. Raises SettingError for what is no message of text."""
    turns = [{"role": "user", "content": given}] if isinstance(given, str) else given
    before = [ChatMessage(role="system", content=instructions)] if instructions else []
    for turn in turns:
        if turn.get("type", "message") != "message" or not isinstance(turn.get("role"), str):
            raise SettingError(f"input may have messages alone (got an item of type {turn.get('type')!r})")
        if not isinstance(turn.get("content"), str | list):
            raise SettingError("a message of input needs a content: a text or a list of parts")
    return [*before, *(ChatMessage(role=turn["role"], content=turn["content"]) for turn in turns)]


def _content(message: ChatMessage) -> str | list[dict[str, Any]]:
    content = message.content or ""
    called = [*(message.tool_calls or ()), *([{"function": message.function_call}] if message.function_call else [])]
    if called:
        calls = [f"<tool_call>\n{_call(each)}\n</tool_call>" for each in called]
        return "\n".join([text for text in (_joined(content),) if text] + calls)
    if message.role in ("tool", "function"):
        return f"<tool_response>\n{_joined(content)}\n</tool_response>"
    return (
        [part for part in content if part.get("type") not in _REASONING] or "" if isinstance(content, list) else content
    )


def _joined(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    [read] = read_messages([{"role": "user", "content": content}])
    return str(read["content"])


def _call(call: Mapping[str, Any]) -> str:
    function = call.get("function")
    if not isinstance(function, Mapping):
        raise SettingError("a message's tool_calls must be of functions")
    arguments = function.get("arguments")
    with suppress(ValueError, RecursionError):  # else as the model wrote them
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    return json.dumps({"name": function.get("name"), "arguments": arguments}, ensure_ascii=False)
