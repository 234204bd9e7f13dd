"""The completions whose steps a run kept: a table that links to a page of each (view/)."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from powercut.chains import read_chains
from powercut.errors import SettingError
from powercut.records import STEP_FILE, STEPS, step_file
from powercut.report.page import Part, Section, html
from powercut.report.summary import Entry, Summary
from powercut.report.tables import NOTHING, TextRow, TextTable, number
from powercut.view.page import view_page

COMPLETIONS = "completions.html"
"""The page of the table."""

_FOLDER = "completions"
"""Where the pages of single completions are, a folder for each cell."""


@dataclass(frozen=True)
class Page:
    """A page beside the report: its place there, what makes it, and of what file (None: of all results)."""

    place: PurePosixPath
    make: Callable[[], str]
    source: Path | None = None

    def mark(self) -> str:
        """The page's first line, which tells its file, in the state it is in now, from any other; empty without one.

        Another run's page has the same place in a report, and may be newer than this run's steps. Raises SettingError
        for a file that is not there.
        """
        if self.source is None:
            return ""
        try:
            path, about = self.source.resolve(strict=True), self.source.stat()
        except OSError as error:
            raise SettingError(f"{self.source} cannot be read: {error.strerror}") from None
        state = f"{path}\0{about.st_mtime_ns}\0{about.st_size}".encode("utf-8", "backslashreplace")
        return f"<!-- steps {hashlib.sha256(state).hexdigest()} -->\n"


@dataclass(frozen=True)
class Seen:
    """A completion whose steps are in ``steps``; ``at`` is its place among the completions of its entry."""

    entry: Entry
    at: int
    steps: Path

    @property
    def problem(self) -> str:
        """The problem's id."""
        return str(self.entry.cell.ids[self.entry.cell.problem[self.at]])

    @property
    def seed(self) -> int:
        """The completion's number."""
        return int(self.entry.cell.seed[self.at])

    @property
    def place(self) -> PurePosixPath:
        """Of its page, beside the report."""
        return PurePosixPath(_FOLDER, self.entry.cell.name, self.steps.name.removesuffix(STEP_FILE) + ".html")

    def page(self) -> str:
        """Its page. Raises SettingError for steps that cannot be read, or do not hang together."""
        facts = self.entry.facts  # no label, which depends on the report's other cells: a page is not made twice
        return view_page(read_chains(self.steps), f"{facts.task}: {self.problem}, seed {self.seed}, {facts.sampler}")


def find_completions(summary: Summary) -> list[Seen]:
    """Every completion that has its steps beside its result, task by task and problem by problem."""
    found = []
    for task in summary.tasks.values():
        own = [seen for entry in task for seen in _seen(entry)]
        found += sorted(own, key=lambda seen: (_natural(seen.problem), task.index(seen.entry), seen.seed))
    return found


def pages(summary: Summary, completions: Sequence[Seen], title: str) -> Iterator[Page]:
    """The table's page and one of each completion; none if there are no completions."""
    if not completions:
        return
    yield Page(PurePosixPath(COMPLETIONS), lambda: _table_page(summary, completions, title))
    for each in completions:
        yield Page(each.place, each.page, each.steps)


def _natural(name: str) -> list[tuple[int, str]]:
    """For sorting names: numbers in them by their values."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def _seen(entry: Entry) -> Iterator[Seen]:
    """Those of one cell. Of several folders that have a completion, only the one whose result counts is asked."""
    cell = entry.cell
    with_steps = {folder for folder in set(cell.folders) if (folder / STEPS).is_dir()}
    for at, folder in enumerate(cell.folders):
        if folder in with_steps and not cell.failed[at]:
            steps = step_file(folder, cell.ids[cell.problem[at]], int(cell.seed[at]))
            if steps.is_file():
                yield Seen(entry, at, steps)


def _table_page(summary: Summary, completions: Sequence[Seen], title: str) -> str:
    sections = []
    for task, entries in summary.tasks.items():
        own = [each for each in completions if each.entry.facts.task == task]
        if own:
            every = sum(entry.completions for entry in entries)
            caption = (
                f"{len(own):,} of {every:,} completions have their steps in the run: each problem is a link to them."
            )
            sections.append(Section(task, [Part(caption, _table(own, several=len(summary.models) > 1))]))
    about = f"{len(completions):,} completions, token by token and step by step; powercut {version('powercut')}"
    return html(sections, title, about, footer="What the pages show is explained in powercut's docs/view.md.")


def _table(completions: Sequence[Seen], *, several: bool) -> TextTable:
    rows, before = [], ""
    for each in completions:
        cell, at = each.entry.cell, each.at
        measured = {name: float(cell.measures[name][at]) for name in ("logp", "tokens", "tokens_decoded", "changed")}
        logp, *counts, changed = measured.values()
        names = [each.problem, *([each.entry.model] if several else []), each.entry.label]
        fields = [
            str(each.seed),
            "right" if cell.correct[at] else "wrong",
            number(logp),
            *(NOTHING if math.isnan(count) else f"{count:,.0f}" for count in counts),
            NOTHING if math.isnan(changed) else f"{100 * changed:.0f}",
        ]
        rows.append(TextRow([*names, *fields], group=each.problem != before, link=quote(str(each.place))))
        before = each.problem
    names = ["problem", *(["model"] if several else []), "sampler"]
    return TextTable([*names, "seed", "", "log p", "tokens", "decoded tokens", "changed, %"], rows, names=len(names))
