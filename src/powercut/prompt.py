"""What a prompt is: a string, chat messages or token ids, and what may go with it into a chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from powercut.errors import SettingError, one_line, quoted

Message = Mapping[str, Any]
"""``{"role": ..., "content": ...}``, both strings; other fields are the chat template's."""

Prompt = str | Sequence[Message] | Sequence[int]
"""A string, chat messages, or token ids."""

TemplateArgs = Mapping[str, Any]
"""Variables of a chat template with their values, of types that JSON has."""

SET_HERE = {"messages", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize"}
SET_HERE |= {"raise_exception", "strftime_now"}
"""Names in a chat template that are no variables of the user's."""

RAW_HAS_NO_ARGS = (
    "a raw prompt goes through no chat template; leave them out, or give --chat (chat=True) and a model with a template"
)

_TEXT_PARTS = ("text", "input_text", "output_text")


def check_prompt(prompt: object) -> Prompt:
    """``prompt`` in plain Python types, if it can be one: a string, messages or token ids.

    A message's content may be a text or a list of text parts, as OpenAI's clients send them; these are joined.

    Raises SettingError for anything else, for a prompt that is empty, and for a text with half a character in it.
    """
    if isinstance(prompt, str):
        if not prompt.strip():
            raise SettingError("the prompt is empty: give some text")
        return check_whole(prompt)
    if isinstance(prompt, np.ndarray):
        prompt = prompt.tolist()
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes | bytearray | memoryview):
        raise SettingError(
            f"a prompt is a string, a list of chat messages or a list of token ids, not {type(prompt).__name__}"
        )
    if not prompt:
        raise SettingError("the prompt is empty: give at least one message or token id")
    if isinstance(prompt[0], Mapping):
        messages = [_message(message) for message in prompt]
        if not any(message["content"].strip() for message in messages):
            raise SettingError("the prompt is empty: no message has any text")
        return messages
    for token in prompt:
        if not isinstance(token, Integral) or isinstance(token, bool) or not 0 <= int(token) < 2**63:
            raise SettingError(
                f"the prompt's token ids must be whole numbers of at least 0 and below 2^63 (got {quoted(token)})"
            )
    return [int(token) for token in prompt]


def check_system(system: object) -> str:
    """``system`` as a system message; SettingError for what is no text, or has half a character in it."""
    if not isinstance(system, str):
        raise SettingError(f"system must be a text (got {quoted(system)})")
    return check_whole(system, "the system message")


def check_template_args(args: object, chat: bool | None = None) -> TemplateArgs | None:
    """``args`` as a dictionary, None if there are none.

    Raises SettingError for anything else, for values that JSON does not have, for names that are not the user's to set,
    and where ``chat`` False leaves the chat template out.
    """
    if args is None:
        return None
    if not isinstance(args, Mapping) or not all(isinstance(name, str) for name in args):
        raise SettingError(
            f"template_args: give a dictionary of the chat template's variables, such as "
            f'{{"enable_thinking": False}} (got {quoted(args)})'
        )
    for name, value in args.items():
        if name in SET_HERE or not name.isidentifier():
            raise SettingError(f"template_args: {quoted(name)} is no variable of yours to set: leave it out")
        try:
            check_whole(json.dumps(value, ensure_ascii=False, allow_nan=False), f"template_args: {name}")
        except SettingError:
            raise
        except (TypeError, ValueError, RecursionError) as error:
            raise SettingError(f"template_args: {name} is nothing that JSON has ({one_line(error)})") from None
    if args and chat is False:
        raise SettingError(f"template_args: {RAW_HAS_NO_ARGS}")
    return dict(args) or None


def begun_turn(messages: Sequence[Message]) -> str:
    """How the assistant's turn begins, if the last of the messages says so; else nothing."""
    return str(messages[-1]["content"]).strip() if messages and messages[-1]["role"] == "assistant" else ""


def check_whole(text: str, what: str = "the prompt") -> str:
    """``text``, if it has whole characters only; SettingError, which says ``what`` it is, for a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SettingError(
            f"character {error.start + 1} of {what} is half a character (a lone surrogate, or no UTF-8): give the "
            "text as UTF-8"
        ) from None
    return text


def _message(message: object) -> Message:
    """A chat message, its content as one text."""
    if isinstance(message, Mapping):
        content = message.get("content")
        if isinstance(content, list) and content:
            parts = [_text_of(part) for part in content]
            texts = [part for part in parts if isinstance(part, str)]
            if len(texts) < len(parts):
                raise SettingError("a chat message may have parts of text alone: no images, audio or files")
            content = "".join(texts)
        if isinstance(message.get("role"), str) and isinstance(content, str):
            for value in (content, *message.values()):
                if isinstance(value, str):
                    check_whole(value)
            return {**message, "content": content}
    raise SettingError(f"a chat message needs a role and a content that are strings (got {quoted(message)})")


def _text_of(part: object) -> object:
    """The text of a part of a message; None where it is of another type."""
    if isinstance(part, Mapping):
        return part.get("text") if part.get("type", "text") in _TEXT_PARTS else None
    return part
