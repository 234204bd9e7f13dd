"""The prompts of a command: its argument, a file, or what is piped in."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from powercut.errors import SettingError, one_line
from powercut.prompt import Prompt, check_prompt

_LARGEST = 1 << 30
"""Bytes of a file of prompts: a device, or a pipe, need not end."""

_FIELDS = ("prompt", "messages", "tokens")
_LIST = re.compile(r'\[|\[\s*\{.*|\[\s*".*\]')
"""A line that can only be meant as (the beginning of) a JSON list."""

_LIST_BEGUN = re.compile(r'\[|\[\s*[{"](.*,)?')
"""A first line with which a JSON list begins that goes on."""

_AS_TEXT = 'a prompt that starts with {} is written {{"prompt": "..."}}'


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt, the other fields of the line it came from, and which line of which file that was."""

    prompt: Prompt
    meta: Mapping[str, Any] = field(default_factory=dict)
    place: str = "the prompt"


def read_prompts(argument: str | None, file: str | None, skip: Callable[[str], None] | None = None) -> list[Asked]:
    """Read the prompts: the argument, the lines of ``file`` (``-`` is stdin), or the lines of stdin when it is piped.

    A line is a prompt; one that starts with ``{`` is a JSON object with ``prompt``, ``messages`` or ``tokens``. A file
    that is one JSON list has such an object, a text, messages or token ids for each prompt. Empty lines are skipped.

    Raises SettingError, naming file and line, for what cannot be read; a prompt that cannot be used is left out if
    ``skip`` is given, which is told why.
    """
    if argument is not None:
        if file is not None:
            raise SettingError("give a PROMPT or --file, not both")
        return [Asked(check_prompt(argument))]
    if file is None and sys.stdin.isatty():
        raise SettingError("there is no prompt: give one as an argument, with --file FILE, or on stdin")
    name = "stdin" if file in (None, "-") else str(file)
    asked = list(_read_all(name, _read_text(name, file), skip))
    if not asked:
        raise SettingError(f"{name} has no prompt: give one per line")
    return asked


def shorten(prompt: Prompt, width: int = 60) -> str:
    """Put a prompt on one line, for people."""
    if isinstance(prompt, str):
        text = prompt
    elif isinstance(prompt[0], Mapping):
        text = prompt[-1]["content"]  # type: ignore[index]  # messages
    else:
        text = f"{len(prompt)} token ids"
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def _read_text(name: str, file: str | None) -> str:
    try:
        if file is None or file == "-":
            data = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise SettingError(f"--file: cannot read {name}: {error.strerror or error}") from None
    except ValueError as error:  # a name that no file can have
        raise SettingError(f"--file: cannot read {name}: {error}") from None
    if len(data) > _LARGEST:
        raise SettingError(f"{name} has more than {_LARGEST >> 20} MB: give it in parts")
    at = data.find(b"\0")
    if at < 0:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            at = error.start
        else:
            return text.replace("\r\n", "\n").replace("\r", "\n")
    line = data.count(b"\n", 0, at) + 1
    what = "not UTF-8 text" if data[at] else "a NUL byte, which no UTF-8 text has"
    raise SettingError(f"{name}:{line}: {what}; save the file as UTF-8")


def _read_all(name: str, text: str, skip: Callable[[str], None] | None) -> Iterator[Asked]:
    listed = _json_list(name, text)
    if listed is not None:
        items: Iterable[tuple[int, Any]] = enumerate(listed, start=1)
    else:  # splitlines would also split inside a JSON string
        lines = (
            line.lstrip("\ufeff").strip() for line in text.split("\n")
        )  # files that were joined have several marks
        items = ((number, line) for number, line in enumerate(lines, start=1) if line)
    for number, item in items:
        place = f"{name}:{number}" if listed is None else f"{name}, prompt {number}"
        try:
            asked = _read_line(item) if listed is None else _read_item(item)
            yield replace(asked, place=place)
        except SettingError as error:
            if skip is None:
                raise SettingError(f"{place}: {error}") from None
            skip(f"{place}: {error}")


def _json_list(name: str, text: str) -> list[Any] | None:
    """The items of a text that is one JSON list; None for any other. Raises SettingError for one that is broken."""
    text = text.lstrip()
    if not text.startswith("["):
        return None
    try:
        return cast(list[Any], _from_json(text))
    except (ValueError, RecursionError) as error:
        if _LIST_BEGUN.fullmatch(text.split("\n", 1)[0].rstrip()):
            raise SettingError(f"{name}: not a JSON list ({one_line(error, 120)})") from None
        return None


def _read_line(line: str) -> Asked:
    """A prompt from a line: an object if it begins as one, else a text. A list is neither."""
    try:
        found = _from_json(line) if line[0] in "{[" else line
    except (ValueError, RecursionError) as error:
        kind = "object" if line[0] == "{" else "list"
        if kind == "list" and not _LIST.fullmatch(line):
            return Asked(check_prompt(line))
        raise SettingError(f"not a JSON {kind} ({one_line(error, 120)}); {_AS_TEXT.format(line[0])}") from None
    if isinstance(found, list):
        raise SettingError(f'a list is no prompt: token ids are written {{"tokens": [...]}}; {_AS_TEXT.format("[")}')
    return _read_item(found)


def _read_item(item: Any) -> Asked:
    """A prompt from a JSON value: an object, or a text in a list."""
    if not isinstance(item, dict):
        return Asked(check_prompt(item))
    fields = dict(item)
    found = [name for name in _FIELDS if name in fields]
    if len(found) != 1:
        hint = '; a conversation is {"messages": [...]}' if "role" in fields else ""
        has = ", ".join(found) or "none of them"
        raise SettingError(f"an object needs one of {', '.join(_FIELDS)} (it has {has}){hint}")
    prompt = check_prompt(fields.pop(found[0]))
    kind = "prompt" if isinstance(prompt, str) else "messages" if isinstance(prompt[0], Mapping) else "tokens"
    if kind != found[0]:
        raise SettingError(f"{found[0]} holds what belongs in {kind}")
    return Asked(prompt, fields)


def _from_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are there once each; ValueError for one that is not."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{json.dumps(twice)} is there twice")
    return found
