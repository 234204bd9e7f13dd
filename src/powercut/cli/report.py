"""``powercut report``: tables, intervals, tests and plots of run folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from powercut.cli.counting import counting
from powercut.cli.interrupts import interruptible
from powercut.cli.output import say
from powercut.cli.show_table import show_table
from powercut.durable import one_system_line, write_whole
from powercut.errors import PowercutError, SettingError

if TYPE_CHECKING:
    from powercut.report.completions import Page

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

    Writes report.md, results.csv and report.html, a page with plots that needs no network. Of a run that was made with
    --save-trace it leads to a page of each completion, step by step. On stdout is the main table; when piped, as lines
    with tabs. Several folders make one report, which compares their models.

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
    show_table(made.table)  # whatever becomes of the files
    if failure is not None:
        raise PowercutError(f"--out: cannot write {failure.filename or folder}: {failure.strerror}")
    say(f"wrote {', '.join(str(folder / FILES[name]) for name in made.texts)}")
    if made.pages:
        _write_pages(folder, made.pages)


def _write_pages(folder: Path, pages: Sequence[Page]) -> None:
    """Write each page that is not there, or shows something else; one whose steps cannot be read stops no other.

    Raises PowercutError for a page that cannot be written: no other could be.
    """
    console = Console(stderr=True, highlight=False)
    written = 0
    with counting(console, "pages of completions", 0, len(pages), "pages of completions are there") as step:
        for page in pages:
            file = folder / page.place
            try:
                mark = page.mark()  # before it is made: what is written meanwhile is another state of the file
                text = None if mark and _begins_with(file, mark) else mark + page.make()
            except SettingError as error:
                say(f"note: no page of {page.source or page.place}: {error}")
                with one_system_line(file):
                    file.unlink(missing_ok=True)  # the table leads there: better to none than to another run's
            else:
                if text is not None:
                    with one_system_line(file.parent):
                        file.parent.mkdir(parents=True, exist_ok=True)
                    write_whole(file, text)
                    written += 1
            step()
    say(f"wrote {folder / pages[0].place}, which leads to {len(pages) - 1:,} completions; {written - 1:,} are new")


def _begins_with(file: Path, mark: str) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(len(mark)) == mark.encode()
    except OSError:  # not there; what else it may be, writing it will say
        return False


def _write(folder: Path, texts: dict[str, str]) -> OSError | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / FILES[name]).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        return error
    return None
