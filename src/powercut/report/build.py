"""A whole report, from run folders to the text of each file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from powercut.report import csv
from powercut.report.html import html
from powercut.report.markdown import markdown
from powercut.report.read import read_runs
from powercut.report.sections import compose
from powercut.report.summary import summarise
from powercut.report.tables import TextTable, main_table


@dataclass(frozen=True)
class Report:
    """A report: the text of each format, the main table for a terminal, and notes on what is missing."""

    texts: dict[str, str]
    table: TextTable
    notes: list[str]


def build(folders: Sequence[Path], formats: Sequence[str] = ("md", "csv", "html")) -> Report:
    """Read run folders and say what they hold. Raises SettingError for what is not a run, or has no results."""
    cells, runs, notes = read_runs(folders)
    summary = summarise(cells)
    sections = compose(summary, runs)
    title = "Power sampling: " + ", ".join(summary.models)
    write: dict[str, Callable[[], str]] = {
        "md": lambda: markdown(sections, title, notes),
        "csv": lambda: csv.results(summary),
        "html": lambda: html(summary, sections, title, notes),
    }
    return Report({name: write[name]() for name in formats}, main_table(summary), notes)
