"""The page of the command line, from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from powercut.cli.app import app

HEAD = """# The command line

`powercut COMMAND --help` says the same. Exit codes: 0; 2 for what cannot be used; 1 for another failure (a check of
`verify`, a completion of an `eval`); 130 after Ctrl-C, which keeps what is finished. An error is one line on stderr.
"""
VALUES = {int: "INTEGER", float: "FLOAT", Path: "PATH"}
"""What a flag's value is called; any other is TEXT."""


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command below this one, with its full name."""
    yield name, command
    for each, below in sorted(getattr(command, "commands", {}).items()):
        yield from commands(below, f"{name} {each}")


def page() -> str:
    """The whole page."""
    root = typer.main.get_command(app)
    return HEAD + "".join("\n" + "\n".join(part(name, command)) + "\n" for name, command in commands(root, "powercut"))


def part(name: str, command: Any) -> Iterator[str]:
    """One command: what it does, its examples, and its arguments and flags by their panels."""
    yield f"## {name}\n"
    yield from described(inspect.cleandoc(command.help or ""), command.epilog or "")
    panels: dict[str, list[Any]] = {}
    for param in command.params:
        if not getattr(param, "hidden", False):
            usual = "Arguments" if param.param_type_name == "argument" else "Options"
            panels.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(param)
    for title, params in panels.items():
        yield f"\n**{title}**\n\n| | |\n| --- | --- |"
        yield from (f"| {spelling(param)} | {cell(param)} |" for param in params)
    if below := getattr(command, "commands", {}):
        yield "\n**Commands**\n\n| | |\n| --- | --- |"
        for each in sorted(below):
            target = f"{name} {each}".replace(" ", "-")
            yield f"| [`{each}`](#{target}) | {inspect.cleandoc(below[each].help or '').splitlines()[0]} |"


def described(text: str, epilog: str) -> Iterator[str]:
    """A command's help, its examples in a block."""
    if epilog:
        text += f"\n\nFor example:\n\n    {epilog.removeprefix('Example: ')}"
    prose, _, examples = text.partition("For example:")
    yield prose.strip()
    if lines := [line.strip() for line in examples.splitlines() if line.strip()]:
        yield "\n```\n" + "\n".join(lines) + "\n```"


def spelling(param: Any) -> str:
    """How an argument or a flag is written."""
    if param.param_type_name == "argument":
        return f"`{param.metavar or param.name.upper()}`"
    spelt = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
    kind = VALUES.get(param.type_descriptor.annotation, "TEXT")
    value = (param.metavar or kind).replace("|", r"\|")
    return spelt if param.is_flag else f"{spelt} {value}"


def cell(param: Any) -> str:
    """The help of an argument or a flag, and its default if the help does not say it."""
    text = " ".join((param.help or "").split()).replace("|", "\\|").replace("<", "&lt;")
    told = param.default in (None, False, [], ()) or not getattr(param, "show_default", True) or "Default" in text
    return text if told else f"{text} Default: {param.default}."
