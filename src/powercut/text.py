"""The edge between strings and token ids: prompts in, completions out. Nothing below it sees text."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Protocol, cast, runtime_checkable
from weakref import WeakKeyDictionary

from powercut.errors import PowercutError, SettingError, did_you_mean, one_line
from powercut.prompt import (
    RAW_HAS_NO_ARGS,
    SET_HERE,
    Message,
    Prompt,
    TemplateArgs,
    begun_turn,
    check_prompt,
    check_system,
    check_template_args,
)

_MARK = "mark 0451"
TURNS: list[dict[str, str]] = [{"role": role, "content": _MARK} for role in ("user", "assistant")]
"""A conversation by which a chat template is looked at."""

_SEEN: WeakKeyDictionary[Text, set[str]] = WeakKeyDictionary()
"""For each text whose chat template was looked at, the roles that need no further look."""

_PRINTED = (*range(33, 127), *range(161, 173), *range(174, 256))
_BYTE_OF = {chr(byte): byte for byte in _PRINTED} | {
    chr(256 + i): byte for i, byte in enumerate(sorted({*range(256)} - {*_PRINTED}))
}
"""The bytes for which the characters of a byte-level vocabulary stand."""


class Text(Protocol):
    """How an engine reads prompts and shows completions. Its calls may wait: for a server's answer, say."""

    has_chat_template: bool

    async def encode(self, text: str) -> list[int]:
        """Token ids of raw text, with the model's own start token if it uses one."""

    async def encode_chat(self, messages: Sequence[Message], template_args: TemplateArgs | None = None) -> list[int]:
        """Token ids of a conversation in the model's chat template, ready for the assistant's turn."""

    async def is_rendered(self, text: str) -> bool:
        """Whether ``text`` begins as a conversation in the chat template does."""

    async def decode(self, tokens: Sequence[int]) -> str:
        """Text of generated tokens, special tokens left out."""


@runtime_checkable
class LocalText(Text, Protocol):
    """Text that never has to wait: stop strings, which are looked for between two tokens, need one."""

    def decode_now(self, tokens: Sequence[int]) -> str:
        """``decode``, at once."""


class TokenizerText:
    """Text by a tokenizer in this process, Hugging Face's or one with the same calls; it never waits."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.has_chat_template = bool(getattr(tokenizer, "chat_template", None))

    async def encode(self, text: str) -> list[int]:
        """Token ids of raw text as ``begun_once`` has them."""
        return begun_once(self._tokenizer.encode(text, add_special_tokens=False), self._tokenizer.encode(text))

    async def encode_chat(self, messages: Sequence[Message], template_args: TemplateArgs | None = None) -> list[int]:
        """Token ids of a conversation in the chat template, ready for the assistant's turn.

        A last message of the assistant is the beginning of that turn. Raises SettingError for ``template_args`` that
        are no variables of the template, and when it refuses the messages (some know no system role, for one).
        """
        goes_on = bool(begun_turn(messages))
        try:
            unknown = sorted(template_args.keys() - self._variables) if template_args else []
            ids = (
                []
                if unknown
                else self._tokenizer.apply_chat_template(
                    [dict(message) for message in messages],
                    add_generation_prompt=not goes_on,
                    continue_final_message=goes_on,
                    tokenize=True,
                    return_dict=False,
                    **(template_args or {}),
                )
            )
        except PowercutError:
            raise
        except Exception as error:  # a template is the model author's code: it can raise anything
            raise SettingError(f"the model's chat template refuses these messages: {one_line(error)}") from error
        if unknown:
            hint = did_you_mean(unknown[0], self._variables)
            others = one_line(", ".join(sorted(self._variables)) or "none")
            raise SettingError(f"template_args: the chat template has no variable {unknown[0]}{hint}; it has {others}")
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
        name = self._special_at(self._around[1])
        return frozenset({self.special_tokens[name]} if name else ())

    @property
    def has_open_turns(self) -> bool:
        """Whether the chat template has turns, and no special token that ends them."""
        return bool(self._around[0]) and not self.turn_end

    @property
    def end(self) -> frozenset[int]:
        """The tokenizer's own end token, if it has one."""
        end = getattr(self._tokenizer, "eos_token_id", None)
        return frozenset() if end is None else frozenset({int(end)})

    def encode_plain(self, text: str) -> list[int]:
        """Token ids of a text alone: nothing is added, and special tokens in it are what they are called."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def with_special(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones as what they are called."""
        return cast(str, self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))

    def describe(self) -> dict[str, Any]:
        """The tokenizer's class, chat template and special tokens by their use, None for those it does not have."""
        names = ("bos_token", "eos_token", "pad_token", "unk_token")
        facts = {name: getattr(self._tokenizer, name, None) for name in ("chat_template", *names)}
        return {"tokenizer_class": type(self._tokenizer).__name__, **facts}

    def name_of(self, token: int) -> str:
        """The text of one token; what it is called if it is a special one."""
        if token in (named := self._special_names):
            return named[token]
        piece = self._tokenizer.convert_ids_to_tokens(token)
        text = self.decode_now([token])
        return f" {text}" if isinstance(piece, str) and piece.startswith("▁") and not text.startswith(" ") else text

    def bytes_of(self, token: int) -> bytes | None:
        """The bytes of one token, which may be part of a character; None where its vocabulary does not tell."""
        name = self.name_of(token)
        if "\ufffd" not in name:
            return name.encode()
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        if re.fullmatch("<0x[0-9A-F]{2}>", piece):
            return bytes.fromhex(piece[3:5])
        return bytes(map(_BYTE_OF.__getitem__, piece)) if set(piece) <= _BYTE_OF.keys() else None

    @cached_property
    def _special_names(self) -> dict[int, str]:
        return {token: name for name, token in self.special_tokens.items()}

    async def is_rendered(self, text: str) -> bool:
        """Whether ``text`` begins with the template's first special token, or with its opening where that has none."""
        opening = self._around[0]
        return bool(opening) and text.lstrip().startswith(self._special_at(opening) or opening)

    def _special_at(self, text: str) -> str:
        """The special token with which ``text`` begins; nothing if it begins otherwise."""
        return max((token for token in self.special_tokens if token and text.startswith(token)), key=len, default="")

    @cached_property
    def _around(self) -> tuple[str, str]:
        """What ``around_turns`` finds in the template; nothing where it refuses TURNS."""
        if not self.has_chat_template:
            return "", ""
        try:
            return around_turns(self._tokenizer.apply_chat_template(TURNS, tokenize=False))
        except Exception:  # as above
            return "", ""

    @cached_property
    def _variables(self) -> frozenset[str]:
        """The variables of the chat template that are a user's to set."""
        jinja2 = importlib.import_module("jinja2")  # heavy, and there wherever a template can be used
        meta = importlib.import_module("jinja2.meta")
        template = plain_jinja(self._tokenizer.get_chat_template())
        parsed = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
        return frozenset(meta.find_undeclared_variables(parsed)) - SET_HERE

    async def decode(self, tokens: Sequence[int]) -> str:
        """Text of generated tokens, special tokens left out."""
        return self.decode_now(tokens)

    def decode_now(self, tokens: Sequence[int]) -> str:
        """``decode``, at once."""
        ids = [int(token) for token in tokens]
        return cast(str, self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


async def encode_prompt(
    text: Text | None,
    prompt: Prompt,
    *,
    chat: bool | None = None,
    system: str | None = None,
    template_args: TemplateArgs | None = None,
) -> list[int]:
    """Token ids of a prompt.

    A string becomes a user message where there is a chat template, unless it is a rendered conversation already, which
    passes with a warning; ``chat=True`` insists on the template and ``chat=False`` takes the string raw. ``system``
    goes in front as a system message, ``template_args`` are variables of the chat template; a last message of the
    assistant is continued. Token ids pass as they are.

    Raises SettingError, naming the remedy, for a prompt that is empty or malformed or that does not fit the settings.
    """
    prompt, template_args = check_prompt(prompt), check_template_args(template_args)
    if not isinstance(prompt, str) and not isinstance(prompt[0], Mapping):
        if system is not None:
            raise SettingError("system: a system message cannot go in front of token ids; give the prompt as text")
        if template_args:
            raise SettingError("template_args: token ids do not go through the chat template; give the prompt as text")
        return list(cast(Sequence[int], prompt))
    if text is None:
        raise SettingError("this engine has no tokenizer: give the prompt as token ids")
    if isinstance(prompt, str):
        if chat and not text.has_chat_template:
            raise SettingError(
                "chat: this model's tokenizer has no chat template; use --raw (chat=False) or a model with a template"
            )
        if chat is None and text.has_chat_template and await text.is_rendered(prompt):
            warnings.warn(
                "a prompt is in the chat template's form already and is taken as it is; --raw (chat=False) says so, "
                "--chat (chat=True) puts it into the template once more",
                stacklevel=2,
            )
            chat = False
        if chat is False or not text.has_chat_template:
            if system is not None:
                raise SettingError("system: a raw prompt has no system message; put its text into the prompt")
            if template_args:
                raise SettingError(f"template_args: {RAW_HAS_NO_ARGS}")
            return _not_empty(await text.encode(prompt))
        prompt = [{"role": "user", "content": prompt}]
    conversation = _conversation(text, cast(Sequence[Message], prompt), chat, system)
    await _look_at_template(text, {message["role"] for message in conversation})
    return _not_empty(await text.encode_chat(conversation, template_args))


def begun_once(plain: Sequence[int], whole: Sequence[int]) -> list[int]:
    """A prompt's token ids, from those without and with the special tokens that its tokenizer adds.

    Start tokens are there once, also where the text had them already. End tokens are left out: a prompt is there to be
    continued.
    """
    plain, whole = list(plain), list(whole)
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return plain if plain[:start] == whole[:start] else whole[: start + len(plain)]
    return whole


def plain_jinja(template: str) -> str:
    """A chat template without the generation blocks of transformers, which Jinja does not know: ``with`` is as good."""
    return re.sub(r"({%[-+]?\s*)(end)?generation(\s*[-+]?%})", r"\1\2with\3", template)


def around_turns(rendered: str) -> tuple[str, str]:
    """What stands before the first and after the last of TURNS, once they are rendered; nothing if that is unclear."""
    parts = rendered.split(_MARK)
    return (parts[0].lstrip(), parts[2].lstrip()) if len(parts) == len(TURNS) + 1 else ("", "")


def special_tokens(text: object) -> Mapping[str, int]:
    """Ids by their names of the tokens that show as no text; of a server's nothing is known."""
    return text.special_tokens if isinstance(text, TokenizerText) else {}


def trim_stop(text: str, stops: Sequence[str], start: int = 0) -> str:
    """``text`` up to the first occurrence of any of ``stops`` from ``start`` on."""
    return text[: min((at for stop in stops if (at := text.find(stop, start)) >= 0), default=len(text))]


async def completion_text(text: Text, tokens: Sequence[int], stop: Sequence[str | int], min_new_tokens: int = 0) -> str:
    """What a user is shown of a completion: its text, up to a stop string if it ends with one.

    In the text of its first ``min_new_tokens`` tokens a stop string is not looked for, as engines do not.
    """
    whole, strings = await text.decode(tokens), [item for item in stop if isinstance(item, str)]
    if not strings or not min_new_tokens:
        return trim_stop(whole, strings)
    before = await text.decode(tokens[:min_new_tokens])
    return trim_stop(whole, strings, len(before.rstrip("\ufffd")))  # half a character is whole in the whole text


def _conversation(text: Text, messages: Sequence[Message], chat: bool | None, system: str | None) -> Sequence[Message]:
    if chat is False:
        raise SettingError("messages need the chat template: leave out --raw (chat=False), or give a string")
    if not text.has_chat_template:
        raise SettingError("messages need a chat template and this model's tokenizer has none: give a string")
    if messages[-1]["role"] == "assistant" and not begun_turn(messages):
        messages = messages[:-1]  # that turn has not begun
    if system is None:
        return messages
    if any(message["role"] == "system" for message in messages):
        raise SettingError("system: the messages already have a system message; give one or the other")
    return [{"role": "system", "content": check_system(system)}, *messages]


async def _look_at_template(text: Text, roles: set[str]) -> None:
    """Warn, once for each text, of what a chat template does in silence: it leaves out a role, or ends no turn."""
    if text not in _SEEN and isinstance(text, TokenizerText) and text.has_open_turns:
        warnings.warn(
            "the chat template ends a turn with no special token: where completions run on into the next one, give a "
            "stop (--stop)",
            stacklevel=3,
        )
    seen = _SEEN.setdefault(text, {"assistant", "tool"})
    for role in sorted(roles - seen):
        seen.add(role)
        rest = [] if role == "user" else [{"role": "user", "content": "Hello"}]
        with suppress(PowercutError):  # the prompt itself will tell
            short, long = [
                await text.encode_chat([{"role": role, "content": say}, *rest]) for say in (_MARK, 2 * _MARK)
            ]
            if short == long:
                warnings.warn(f"the chat template leaves out what messages of the role {role!r} say", stacklevel=3)


def _not_empty(ids: list[int]) -> list[int]:
    if not ids:
        raise SettingError("the prompt is empty: the tokenizer makes no token of it")
    return ids
