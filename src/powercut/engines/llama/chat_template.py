"""Chat templates, which are the model author's code: rendered in a sandbox, with what such templates count on."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from powercut.prompt import Message


def render(template: str, messages: Sequence[Message], **variables: Any) -> str:
    """The conversation as the template writes it. Raises jinja2's errors, and whatever the template raises."""
    rendered: str = _compiled(template).render(messages=[dict(message) for message in messages], **variables)
    return rendered


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    sandbox = importlib.import_module("jinja2.sandbox")
    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_refuse, strftime_now=lambda form: datetime.now().strftime(form))
    return environment.from_string(re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", template))  # not of Jinja


def _to_json(value: Any, indent: int | None = None) -> str:
    """Jinja's own would escape what stands for a tag of HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)
