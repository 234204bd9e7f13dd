"""The prompts of a command: its argument, a file, or what is piped in."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from powercut.errors import SettingError
from powercut.prompt import Prompt, check_prompt

_FIELDS = ("prompt", "messages", "tokens")


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt, the other fields of the line it came from, and which line of which file that was."""

    prompt: Prompt
    meta: Mapping[str, Any] = field(default_factory=dict)
    place: str = "the prompt"


def read_prompts(argument: str | None, file: str | None, skip: Callable[[str], None] | None = None) -> list[Asked]:
    """Read the prompts: the argument, the lines of ``file`` (``-`` is stdin), or the lines of stdin when it is piped.

    A line is a prompt; one that starts with ``{`` is a JSON object with ``prompt``, ``messages`` or ``tokens``. A file
    that is one JSON list has such an object, or a text, for each prompt. Empty lines are skipped. Raises SettingError,
    naming file and line, for what cannot be read; a prompt that cannot be used is left out if ``skip`` is given, which
    is told why.
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
        data = sys.stdin.buffer.read() if file is None or file == "-" else Path(file).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise SettingError(f"--file: cannot read {name}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SettingError(f"{name}:{line}: not UTF-8 text; save the file as UTF-8") from None
    except ValueError as error:  # a name that no file can have
        raise SettingError(f"--file: cannot read {name}: {error}") from None


def _read_all(name: str, text: str, skip: Callable[[str], None] | None) -> Iterator[Asked]:
    listed = _json_list(text)
    if listed is not None:
        items: Iterable[tuple[int, Any]] = enumerate(listed, start=1)
    else:  # splitlines would also split inside a JSON string
        items = ((number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
    for number, item in items:
        place = f"{name}:{number}" if listed is None else f"{name}, prompt {number}"
        try:
            yield replace(_read_one(item), place=place)
        except SettingError as error:
            if skip is None:
                raise SettingError(f"{place}: {error}") from None
            skip(f"{place}: {error}")


def _json_list(text: str) -> list[Any] | None:
    """The items of a text that is one JSON list of objects or texts; None for any other."""
    if not text.lstrip().startswith("["):
        return None
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    prompts = isinstance(listed, list) and all(isinstance(item, str | dict) for item in listed)
    return listed if prompts and listed else None


def _read_one(item: Any) -> Asked:
    """A prompt from a line, or from an item of a JSON list."""
    if isinstance(item, str) and not item.startswith("{"):
        return Asked(check_prompt(item))
    try:
        fields = json.loads(item) if isinstance(item, str) else dict(item)
    except (ValueError, RecursionError) as error:
        raise SettingError(
            f'not a JSON object ({error}); a prompt that starts with {{ is written {{"prompt": "..."}}'
        ) from None
    found = [name for name in _FIELDS if name in fields]
    if len(found) != 1:
        raise SettingError(f"an object needs one of {', '.join(_FIELDS)} (it has {', '.join(found) or 'none of them'})")
    prompt = check_prompt(fields.pop(found[0]))
    kind = "prompt" if isinstance(prompt, str) else "messages" if isinstance(prompt[0], Mapping) else "tokens"
    if kind != found[0]:
        raise SettingError(f"{found[0]} holds what belongs in {kind}")
    return Asked(prompt, fields)
