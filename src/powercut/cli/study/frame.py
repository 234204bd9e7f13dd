"""What every study's command does: a folder that is taken up again, progress, a table, a page."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from powercut.cli.counting import counting
from powercut.cli.interrupts import interruptible
from powercut.cli.output import say
from powercut.cli.show_table import show_table
from powercut.errors import SettingError

if TYPE_CHECKING:
    from powercut.study.findings import Findings, Record

OutFlag = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The study's folder; what is measured there is not measured again."),
]
SeedFlag = Annotated[int, typer.Option(help="The same seed gives the same figures.")]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]

KeepRecord = Callable[[str, "Record"], None]
"""Takes a record and its key: it is on the disk when this returns."""


@contextmanager
def study_libraries(*later: str) -> Iterator[None]:
    """Import what a study needs, and what it imports ``later`` itself; SettingError that names what is missing."""
    try:
        with interruptible():
            for name in later:
                import_module(name)
            yield
    except ImportError as error:
        raise SettingError(f"powercut study needs {error.name}: pip install 'powercut[report]'") from error


def run_study(
    study: str,
    settings: Mapping[str, Any],
    keys: Sequence[str],
    measure: Callable[[Sequence[str], KeepRecord], None],
    findings: Callable[[Sequence[Record]], Findings],
    *,
    out: Path | None,
    quiet: bool,
) -> None:
    """Measure what the folder lacks of ``keys``, and show and write what was found.

    ``measure(missing, keep)`` is called with the keys that are missing. The folder, studies/STUDY unless ``out`` is
    given, must be new or hold this study with the same ``settings``.
    """
    with study_libraries():
        from powercut.study.folder import StudyFolder

    path = out or Path("studies") / study
    console = Console(stderr=True, quiet=quiet, highlight=False)
    with StudyFolder(path, study, settings, sys.argv) as folder:
        missing = [key for key in keys if key not in folder.done]
        try:
            if missing:
                with counting(console, "measuring", len(keys) - len(missing), len(keys), "measured") as step:

                    def keep(key: str, record: Record) -> None:
                        folder.add(key, record)
                        step()

                    measure(missing, keep)
        except KeyboardInterrupt:
            done = sum(key in folder.done for key in keys)
            say(f"interrupted: {done} of {len(keys)} measured; the same command goes on")
            raise typer.Exit(130) from None
        found = findings([folder.done[key] for key in keys])
        written = folder.write(found)
    show_table(found.table)
    console.print(f"\n{found.says}\n", markup=False)
    say(f"wrote {', '.join(map(str, written))}")


def announce(console: Console, most: int) -> None:
    """Say what the study costs before it starts: at most so many tokens."""
    worst = "if every completion is as long as it can be"
    console.print(f"at most {most:,} tokens are to be decoded, {worst}", markup=False, soft_wrap=True)
