"""The folder of a study.

    OUT/study.json       StudyFacts: which study, its settings, how it was made
    OUT/records.jsonl    a line for each thing that was measured, as soon as it is; its "key" says which
    OUT/figures.csv      the figures at full precision
    OUT/study.html       tables and plots in one page, and what it links to beside it

The same command takes up what an interruption left. One process at a time writes to a study.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from powercut.durable import Lines, one_system_line, write_whole
from powercut.errors import SettingError, one_line
from powercut.evals.runs.provenance import provenance
from powercut.locking import lock_folder
from powercut.records import FORMAT, RunFacts, read_record
from powercut.report.csv import write_lines
from powercut.report.page import html
from powercut.strict_json import json_file, strict
from powercut.study.findings import Findings, Record

_OWN = (".lock", "study.json", "study.json.tmp", "records.jsonl")


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """Which study a folder holds: its name and settings. ``made`` is how it was begun, as in run.json."""

    study: str
    settings: Mapping[str, Any]
    format: int = FORMAT
    made: RunFacts | None = None


class StudyFolder:
    """A study's folder, locked for this process while it is entered; ``done`` has its records by their keys.

    Raises SettingError for the folder of something else, of a study with other settings, or of a newer format; where
    another process has it; and for a line that is no record.
    """

    def __init__(self, path: Path, study: str, settings: Mapping[str, Any], argv: Sequence[str]) -> None:
        self.path = path
        self.done: dict[str, Record] = {}
        self._facts = StudyFacts(study=study, settings=strict(settings), made=provenance(argv))
        self._lock = FileLock(path / ".lock")
        self._lines = Lines(path / "records.jsonl")

    def __enter__(self) -> StudyFolder:
        before = lock_folder(self.path, self._lock, self._read, "study")
        try:
            if before is None:
                write_whole(self.path / "study.json", json_file(self._facts))
            self.done = self._read_records()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def add(self, key: str, record: Record) -> None:
        """Keep a record; it is on the disk when this returns. Raises PowercutError if it cannot be written."""
        line = strict({"key": key, **record})
        self._lines.append(line)
        self.done[key] = line

    def write(self, findings: Findings) -> list[Path]:
        """Write table and page; returns their paths."""
        csv, page = self.path / "figures.csv", self.path / "study.html"
        columns = list(dict.fromkeys(name for row in findings.rows for name in row))
        write_whole(csv, write_lines([strict(row) for row in findings.rows], columns))
        about = f"powercut study {self._facts.study}, powercut {version('powercut')}"
        footer = "Every figure, its definition and its source are in powercut's docs/study.md."
        write_whole(page, html(findings.sections, findings.title, about, says=findings.says, footer=footer))
        for name, text in findings.pages.items():
            write_whole(self.path / name, text)
        return [csv, page, *(self.path / name for name in findings.pages)]

    def _read(self) -> StudyFacts | None:
        file = self.path / "study.json"
        if not file.exists():
            if any(entry.name not in _OWN for entry in self.path.iterdir()):
                raise SettingError(f"{self.path} holds other files and no study: give --out another folder")
            return None
        facts = read_record(StudyFacts, file)
        if facts.format > FORMAT:
            remedy = f"and this powercut reads up to {FORMAT}: update powercut"
            raise SettingError(f"{file} has format {facts.format}, {remedy}")
        ours = self._facts
        if facts.study != ours.study:
            raise SettingError(f"{self.path} holds a study of {facts.study}: give --out another folder")
        if facts.settings != ours.settings:
            names = sorted(facts.settings.keys() | ours.settings.keys())
            other = [name for name in names if facts.settings.get(name) != ours.settings.get(name)]
            raise SettingError(f"{self.path} holds a study with another {other[0]}: give --out another folder")
        return facts

    def _read_records(self) -> dict[str, Record]:
        file, found = self.path / "records.jsonl", {}
        with one_system_line(file):
            self._lines.cut_torn_line()
            lines = file.read_bytes().splitlines() if file.exists() else []
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                found[str(record["key"])] = record
            except (ValueError, RecursionError, TypeError, KeyError) as error:
                remedy = "delete the line, and it is measured again"
                raise SettingError(f"{file}:{number} is no record ({one_line(error)}): {remedy}") from None
        return found
