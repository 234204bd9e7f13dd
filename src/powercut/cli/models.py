"""``powercut models``: what can be loaded here, and how."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from powercut.cli.output import to_stdout
from powercut.errors import SettingError
from powercut.strict_json import json_line

_COLUMNS = ("name", "kind", "available", "detail", "how")


def models(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder whose GGUF files are listed too.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the models and engines that can be loaded here, and how.

    A table on a terminal; when piped, a line each with tabs between name, kind, available (yes or no), detail and how.

    For example:

        powercut models ~/Downloads
    """
    from powercut.models.gguf_files import local_path
    from powercut.models.listing import list_models

    if folder is not None and not (folder := local_path(str(folder))).is_dir():
        raise SettingError(f"FOLDER: there is no folder {folder}")
    found = [asdict(info) for info in list_models(folder)]
    if as_json:
        for info in found:
            to_stdout(json_line(info))
        return
    rows = [[_cell(info[column]) for column in _COLUMNS] for info in found]
    if not sys.stdout.isatty():
        for row in rows:
            to_stdout("\t".join(row) + "\n")
        return
    table = Table(*_COLUMNS, box=None, header_style="bold", padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(str(value).split())
