"""Chat templates, which are the model author's code: rendered in a sandbox, with what such templates count on."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from powercut.prompt import Message
from powercut.text import plain_jinja

_HERE = "[it goes on here] "
"""Put behind a last message that is to be gone on with, to find its end in what the template makes of it. The space
shows whether the template keeps spaces there."""


def render(template: str, messages: Sequence[Message], *, go_on: bool = False, **variables: Any) -> str:
    """The conversation as the template writes it; with ``go_on``, up to the end of the last message's content.

    ``tools`` and ``documents`` are None unless they are given: templates ask whether they are. Raises jinja2's errors,
    whatever the template raises, and ValueError if it leaves out the message that is to be gone on with.
    """
    turns = [dict(message) for message in messages]
    if go_on:
        turns[-1]["content"] += _HERE
    rendered: str = _compiled(template).render(**{"tools": None, "documents": None} | variables, messages=turns)
    if not go_on:
        return rendered
    before, found, after = rendered.rpartition(_HERE.rstrip())
    if not found:
        raise ValueError("it leaves out the message that is to be gone on with")
    return before if after.startswith(" ") else before.rstrip()


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    sandbox = importlib.import_module("jinja2.sandbox")
    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_refuse, strftime_now=lambda form: datetime.now().strftime(form))
    return environment.from_string(plain_jinja(template))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it. Jinja's own would escape what stands for a tag of HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)
