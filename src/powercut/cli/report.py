"""``powercut report``: tables, intervals, tests and plots of run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from powercut.cli.interrupts import interruptible
from powercut.cli.output import say
from powercut.cli.show_table import show_table
from powercut.errors import PowercutError, SettingError

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
    show_table(made.table)  # whatever becomes of the files
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
