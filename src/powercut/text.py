"""The edge between strings and token ids: prompts in, completions out. Nothing below it sees text."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from numbers import Integral
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from powercut.errors import SettingError, one_line

Message = Mapping[str, str]
_MARK = "mark 0451"
"""Stands for a message when a chat template is looked at."""

Prompt = str | Sequence[Message] | Sequence[int]
"""A string, chat messages (``{"role": ..., "content": ...}``), or token ids."""


class Text(Protocol):
    """How an engine reads prompts and shows completions. Its calls may wait: for a server's answer, say."""

    has_chat_template: bool

    async def encode(self, text: str) -> list[int]:
        """Token ids of raw text, with the model's own start token if it uses one."""

    async def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation in the model's chat template, ready for the assistant's turn."""

    async def decode(self, tokens: Sequence[int]) -> str:
        """Text of generated tokens, special tokens left out."""


@runtime_checkable
class LocalText(Text, Protocol):
    """Text that never has to wait: stop strings, which are looked for between two tokens, need one."""

    def decode_now(self, tokens: Sequence[int]) -> str:
        """``decode``, at once."""


class TokenizerText:
    """Text by a Hugging Face tokenizer in this process, which never waits."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.has_chat_template = bool(getattr(tokenizer, "chat_template", None))

    async def encode(self, text: str) -> list[int]:
        """Token ids of raw text, with the start tokens that the tokenizer adds by itself, once.

        End tokens that it adds are left out: a prompt is there to be continued.
        """
        plain = list(self._tokenizer.encode(text, add_special_tokens=False))
        whole = list(self._tokenizer.encode(text))
        for start in range(len(whole) - len(plain) + 1):
            if whole[start : start + len(plain)] == plain:
                return plain if plain[:start] == whole[:start] else whole[: start + len(plain)]
        return whole

    async def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation in the chat template, ready for the assistant's turn.

        A last message of the assistant is the beginning of that turn. Raises SettingError when the template refuses the
        messages (some know no system role, for one).
        """
        goes_on = bool(begun_turn(messages))
        try:
            ids = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                add_generation_prompt=not goes_on,
                continue_final_message=goes_on,
                tokenize=True,
                return_dict=False,
            )
        except Exception as error:  # a template is the model author's code: it can raise anything
            raise SettingError(f"the model's chat template refuses these messages: {one_line(error)}") from error
        return list(ids)

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Ids of the tokens that ``decode`` leaves out, by what they are called."""
        added = self._tokenizer.added_tokens_decoder.items()
        named = zip(self._tokenizer.all_special_tokens, self._tokenizer.all_special_ids, strict=True)
        return {str(token): int(i) for i, token in added if token.special} | {str(token): int(i) for token, i in named}

    @cached_property
    def turn_end(self) -> frozenset[int]:
        """The special token that ends the assistant's turn in the chat template, if there is one."""
        after = self._rendered({"role": "user", "content": "Hello"}, {"role": "assistant", "content": _MARK})[1]
        return frozenset(i for token, i in self.special_tokens.items() if after.lstrip().startswith(token))

    def is_rendered(self, text: str) -> bool:
        """Whether ``text`` begins as a conversation in the chat template does."""
        opening = self._rendered({"role": "user", "content": _MARK})[0].lstrip()
        if not opening:
            return False
        special = [token for token in self.special_tokens if opening.startswith(token)]
        start = max(special, key=len, default=opening)
        return text.lstrip().startswith(start)

    def _rendered(self, *messages: Message) -> tuple[str, str]:
        """What the template puts before and after the mark in the messages; nothing if it refuses them."""
        if not self.has_chat_template:
            return "", ""
        try:
            rendered = self._tokenizer.apply_chat_template([dict(message) for message in messages], tokenize=False)
        except Exception:  # as above
            return "", ""
        before, _, after = rendered.rpartition(_MARK)
        return before, after if before else ""

    async def decode(self, tokens: Sequence[int]) -> str:
        """Text of generated tokens, special tokens left out."""
        return self.decode_now(tokens)

    def decode_now(self, tokens: Sequence[int]) -> str:
        """``decode``, at once."""
        ids = [int(token) for token in tokens]
        return cast(str, self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


async def encode_prompt(
    text: Text | None, prompt: Prompt, *, chat: bool | None = None, system: str | None = None
) -> list[int]:
    """Token ids of a prompt.

    A string becomes a user message where there is a chat template, unless it is a rendered conversation already, which
    passes with a warning; ``chat=True`` insists on the template and ``chat=False`` takes the string raw. ``system``
    goes in front as a system message; a last message of the assistant is continued. Token ids pass as they are.

    Raises SettingError, naming the remedy, for a prompt that is empty or malformed or that does not fit the settings.
    """
    prompt = check_prompt(prompt)
    if not isinstance(prompt, str) and not isinstance(prompt[0], Mapping):
        if system is not None:
            raise SettingError("system: a system message cannot go in front of token ids; give the prompt as text")
        return list(cast(Sequence[int], prompt))
    if text is None:
        raise SettingError("this engine has no tokenizer: give the prompt as token ids")
    if isinstance(prompt, str):
        if chat and not text.has_chat_template:
            raise SettingError(
                "chat: this model's tokenizer has no chat template; use --raw (chat=False) or a model with a template"
            )
        if chat is None and isinstance(text, TokenizerText) and text.is_rendered(prompt):
            warnings.warn(
                "a prompt is in the chat template's form already and is taken as it is; --raw (chat=False) says so, "
                "--chat (chat=True) puts it into the template once more",
                stacklevel=2,
            )
            chat = False
        if chat is False or not text.has_chat_template:
            if system is not None:
                raise SettingError("system: a raw prompt has no system message; put its text into the prompt")
            return _not_empty(await text.encode(prompt))
        prompt = [{"role": "user", "content": prompt}]
    return _not_empty(await text.encode_chat(_conversation(text, cast(Sequence[Message], prompt), chat, system)))


def check_prompt(prompt: object) -> Prompt:
    """``prompt`` in plain Python types, if it can be one: a string, messages or token ids.

    A message's content may be a text or a list of text parts, as OpenAI's clients send them; these are joined.

    Raises SettingError for anything else, for a prompt that is empty, and for a text with half a character in it.
    """
    if isinstance(prompt, str):
        if not prompt.strip():
            raise SettingError("the prompt is empty: give some text")
        return _whole(prompt)
    if isinstance(prompt, np.ndarray):
        prompt = prompt.tolist()
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes | bytearray | memoryview):
        raise SettingError(
            f"a prompt is a string, a list of chat messages or a list of token ids, not {type(prompt).__name__}"
        )
    if not prompt:
        raise SettingError("the prompt is empty: give at least one message or token id")
    if isinstance(prompt[0], Mapping):
        return [_message(message) for message in prompt]
    for token in prompt:
        if not isinstance(token, Integral) or isinstance(token, bool) or token < 0:
            raise SettingError(f"the prompt's token ids must be whole numbers of at least 0 (got {token!r})")
    return [int(token) for token in prompt]


def begun_turn(messages: Sequence[Message]) -> str:
    """How the assistant's turn begins, if the last of the messages says so; else nothing."""
    return messages[-1]["content"].strip() if messages and messages[-1]["role"] == "assistant" else ""


def special_tokens(text: object) -> Mapping[str, int]:
    """Ids by their names of the tokens that show as no text; of a server's nothing is known."""
    return text.special_tokens if isinstance(text, TokenizerText) else {}


def trim_stop(text: str, stops: Sequence[str]) -> str:
    """``text`` up to the first occurrence of any of ``stops``: what a user is shown of a completion."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


async def completion_text(text: Text, tokens: Sequence[int], stop: Sequence[str | int]) -> str:
    """What a user is shown of a completion: its text, up to a stop string if it ends with one."""
    return trim_stop(await text.decode(tokens), [item for item in stop if isinstance(item, str)])


def _message(message: object) -> Message:
    """A chat message, its content as one text."""
    if isinstance(message, Mapping):
        content = message.get("content")
        if isinstance(content, list) and content:
            parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
            texts = [part for part in parts if isinstance(part, str)]
            if len(texts) < len(parts):
                raise SettingError("a chat message may have parts of text alone: no images, audio or files")
            content = "".join(texts)
        if isinstance(message.get("role"), str) and isinstance(content, str):
            return {**message, "content": _whole(content)}
    raise SettingError(f"a chat message needs a role and a content that are strings (got {message!r})")


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SettingError(
            f"character {error.start + 1} of the prompt is half a character (a lone surrogate, or no UTF-8): give the "
            "text as UTF-8"
        ) from None
    return text


def _conversation(text: Text, messages: Sequence[Message], chat: bool | None, system: str | None) -> Sequence[Message]:
    if chat is False:
        raise SettingError("messages need the chat template: leave out --raw (chat=False), or give a string")
    if not text.has_chat_template:
        raise SettingError("messages need a chat template and this model's tokenizer has none: give a string")
    if system is None:
        return messages
    if any(message["role"] == "system" for message in messages):
        raise SettingError("system: the messages already have a system message; give one or the other")
    return [{"role": "system", "content": system}, *messages]


def _not_empty(ids: list[int]) -> list[int]:
    if not ids:
        raise SettingError("the prompt is empty: the tokenizer makes no token of it")
    return ids
