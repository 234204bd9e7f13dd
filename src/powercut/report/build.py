"""A whole report, from run folders to the text of each file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from powercut.report import csv
from powercut.report.completions import Page, find_completions, pages
from powercut.report.markdown import markdown
from powercut.report.page import html
from powercut.report.read import read_runs
from powercut.report.sections import compose
from powercut.report.summary import summarise
from powercut.report.tables import TextTable, main_table

_NO_STEPS = "No page shows single completions: powercut eval --save-trace keeps their steps."


@dataclass(frozen=True)
class Report:
    """A report: the text of each format, the main table for a terminal, and notes on what is missing.

    ``pages`` are those to which the HTML page links, each made when it is asked for.
    """

    texts: dict[str, str]
    table: TextTable
    notes: list[str]
    pages: list[Page]


def build(folders: Sequence[Path], formats: Sequence[str] = ("md", "csv", "html")) -> Report:
    """Read run folders and say what they hold. Raises SettingError for what is not a run, or has no results."""
    cells, runs, notes = read_runs(folders)
    summary = summarise(cells)
    seen = find_completions(summary) if "html" in formats else []
    sections = compose(summary, runs, {each.entry.facts.task for each in seen})
    title = "Power sampling: " + ", ".join(summary.models)
    completions = sum(entry.completions for group in summary.tasks.values() for entry in group)
    write: dict[str, Callable[[], str]] = {
        "md": lambda: markdown(sections, title, notes),
        "csv": lambda: csv.results(summary),
        "html": lambda: html(
            sections,
            title,
            f"{completions:,} completions, reported by powercut {version('powercut')}",
            notes=notes,
            footer="Intervals, tests and columns are explained in powercut's docs/report.md."
            + ("" if seen else f" {_NO_STEPS}"),
        ),
    }
    texts = {name: write[name]() for name in formats}
    return Report(texts, main_table(summary), notes, list(pages(summary, seen, title)))
