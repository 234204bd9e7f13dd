"""``powercut report``: tables, intervals, tests and plots of run folders."""

from __future__ import annotations

import sys
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from powercut.cli.interrupts import interruptible
from powercut.cli.output import say, to_stdout
from powercut.errors import PowercutError, SettingError

if TYPE_CHECKING:
    from powercut.report.tables import TextTable

FILES = {"md": "report.md", "csv": "results.csv", "html": "report.html"}


def report(
    run_dirs: Annotated[
        list[Path], typer.Argument(metavar="RUN_DIR", help="Folders that powercut eval wrote.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write. Default: the folder report in the first RUN_DIR."),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="md|csv|html", help="Write only this; may be given several times."),
    ] = None,
) -> None:
    """Report on runs: accuracy with intervals, pass@k, costs, tests against baselines, ablations.

    Writes report.md, results.csv and report.html, a page with plots that needs no network. On stdout is the main table;
    when piped, as lines with tabs. Several folders make one report, which compares their models.

    For example:

        powercut report runs/math500
    """
    for name in formats or ():
        if name not in FILES:
            raise SettingError(f"--format must be one of {', '.join(FILES)} (got {name!r})")
    try:
        with interruptible():
            from powercut.report.build import build
    except ImportError as error:
        raise SettingError(f"powercut report needs {error.name}: pip install 'powercut[report]'") from error

    made = build(run_dirs, formats or list(FILES))
    for note in made.notes:
        say(f"note: {note}")
    folder = out or run_dirs[0] / "report"
    failure = _write(folder, made.texts)
    _show(made.table)  # whatever becomes of the files
    if failure is not None:
        raise PowercutError(f"--out: cannot write {failure.filename or folder}: {failure.strerror}")
    say(f"wrote {', '.join(str(folder / FILES[name]) for name in made.texts)}")


def _write(folder: Path, texts: dict[str, str]) -> OSError | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / FILES[name]).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        return error
    return None


def _show(figures: TextTable) -> None:
    if not sys.stdout.isatty():
        for fields in (figures.head, *(row.fields for row in figures.rows)):
            to_stdout("\t".join(fields) + "\n")
        return
    console = Console()
    widths = _widths(figures, console.width)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in figures.head[: figures.names]:
        table.add_column(Text(name), no_wrap=True, overflow="ellipsis")
    for name, width in zip(figures.head[figures.names :], widths, strict=False):
        table.add_column(Text(name), justify="right", width=width)
    shown = figures.names + len(widths)
    for row in figures.rows:
        table.add_row(*(Text(row.fields[at], style="bold" if at in row.bold else "") for at in range(shown)))
    console.print(table)


def _widths(figures: TextTable, room: int) -> list[int]:
    """The widths of the figures' columns that there is room for; short of it their headings take two lines."""
    columns = list(zip(figures.head, *(row.fields for row in figures.rows), strict=True))
    names, rest = columns[: figures.names], columns[figures.names :]
    room -= sum(max(map(len, column)) + 2 for column in names)
    full = [max(map(len, column)) for column in rest]
    if sum(full) + 2 * len(full) <= room:
        return full
    least = [max(map(len, (*head.split(), *fields))) for head, *fields in rest]
    ends = list(accumulate(width + 2 for width in least))
    return least[: max(1, sum(end <= room for end in ends))]  # accuracy at least
