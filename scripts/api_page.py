"""The page of the Python interface: each public name by its docstring, each sampler with its settings."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator

import powercut as pc
from powercut.samplers import SAMPLERS

HEAD = """# Python

`import powercut as pc`. These names, their settings and defaults are a contract, which a test pins; what is not listed
here may change.
"""
PARTS = {
    "Sampling": ("load", "sample", "asample", "astream"),
    "Samplers": (*(kind.__name__ for kind in SAMPLERS.values()), "Sampler"),
    "What comes back": ("Completion", "Stats", "Step", "Event", "Trace", "Failure"),
    "Engines": ("Engine", "Request", "TableEngine"),
    "Errors": ("PowercutError", "SettingError", "EngineError", "BudgetError"),
    "Diagnostics": ("diagnostics",),
}
LONG = ("sample", "asample", "astream")
"""Functions of many parameters, which stand a line each; those of ``asample`` are those of ``sample``."""


def page() -> str:
    """The whole page."""
    parts = (f"\n## {title}\n\n" + "\n".join(map(entry, names)) for title, names in PARTS.items())
    return HEAD + "".join(parts)


def entry(name: str) -> str:
    """One name: where mkdocstrings puts its docstring, and what that does not show."""
    found = getattr(pc, name)
    if name in LONG:
        options = "    options:\n      show_signature: false\n      separate_signature: false\n"
        return f"::: powercut.{name}\n{options}\n{signature(name) if name != 'asample' else ''}"
    if name != "Sampler" and isinstance(found, type) and issubclass(found, pc.Sampler):
        return f"::: powercut.{name}\n    options:\n      members: false\n\n" + "\n".join(settings(found)) + "\n"
    return f"::: powercut.{name}\n"


def signature(name: str) -> str:
    """A function's parameters, one a line."""
    found = inspect.signature(getattr(pc, name))
    lines = "".join(f"    {parameter},\n" for parameter in _with_star(found))
    return f"```python\npc.{name}(\n{lines})\n```\n"


def _with_star(found: inspect.Signature) -> Iterator[str]:
    before: object = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for parameter in found.parameters.values():
        if (before, parameter.kind) == (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            yield "*"
        before = parameter.kind
        yield str(parameter).replace("'", "")


def settings(kind: type[pc.Sampler]) -> Iterator[str]:
    """A sampler's settings, in the order of its own ones first."""
    yield "| setting | default | |\n| --- | --- | --- |"
    fields = dataclasses.fields(kind)
    own = [field for field in fields if field.name not in pc.Sampler.__dataclass_fields__]
    for field in (*own, *(field for field in fields if field not in own)):
        yield f"| `{field.name}` | `{field.default!r}` | {field.metadata['help']} |"
