"""Run folders, read: every graded completion of every cell, as columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from powercut.errors import SettingError

FORMAT = 1
"""The newest format of a run folder that is understood."""


_FEW = 3
"""More cells than this are not named one by one."""


class About(msgspec.Struct):
    """What a report needs of ``cell.json``."""

    task: str
    model: str
    sampler: str
    settings: dict[str, Any]
    problems: int | None = None
    seeds: list[int] | None = None


class Row(msgspec.Struct):
    """What a report needs of one line of ``results.jsonl``; other fields, the text among them, are never decoded."""

    id: str | int
    correct: bool | None
    seed: int = 0
    logp: float | None = None
    entropy: float | None = None
    acceptance: float | None = None
    steps: float | None = None
    tokens: float | None = None
    tokens_decoded: float | None = None
    tokens_prefilled: float | None = None
    seconds: float | None = None
    log_z: float | None = None
    finished: bool | None = None
    error: str | None = None


NUMBERS = (
    "logp",
    "entropy",
    "acceptance",
    "steps",
    "tokens",
    "tokens_decoded",
    "tokens_prefilled",
    "seconds",
    "log_z",
    "finished",
)


@dataclass(frozen=True, eq=False)
class Cell:
    """One task, model and sampler with its settings, and its completions as columns ``[n]``.

    ``problem`` indexes ``ids``; ``values`` has a float column for each of NUMBERS, NaN where there is no number.
    ``about`` is all that cell.json says; ``expected`` counts the completions of the whole run, where that is known.
    """

    name: str
    run: Path
    task: str
    model: str
    sampler: str
    about: dict[str, Any]
    settings: dict[str, Any]
    expected: int | None
    ids: tuple[str | int, ...]
    problem: NDArray[np.int64]
    correct: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    values: dict[str, NDArray[np.float64]]

    def by_problem(self, column: NDArray[Any]) -> NDArray[np.float64]:
        """Mean of a column over each problem's completions ``[problems]``; NaN where a problem has no number."""
        known = ~np.isnan(column) if column.dtype.kind == "f" else np.ones(len(column), dtype=bool)
        at, size = self.problem[known], len(self.ids)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.bincount(at, column[known], size) / np.bincount(at, minlength=size))


@dataclass
class _Found:
    """A cell while its files are read."""

    run: Path
    fields: dict[str, Any]
    rows: dict[tuple[str | int, int], Row] = field(default_factory=dict)


def read_runs(folders: Sequence[Path]) -> tuple[list[Cell], list[str]]:
    """Read run folders; a cell that several of them have is one cell with the completions of all.

    Returns the cells that have completions, and notes for the reader, a line each: what was left out and why, and what
    is not finished. Raises SettingError for a folder that is not a run, and when there are no results at all.
    """
    found: dict[str, _Found] = {}
    notes: list[str] = []
    for folder in folders:
        read_run(folder)
        for file in sorted(folder.glob("cells/*/cell.json")):
            if (fields := _read_cell(file, notes)) is not None:
                cell = found.setdefault(file.parent.name, _Found(folder, fields))
                _read_results(file.with_name("results.jsonl"), cell.rows, notes)
    cells = [_cell(name, cell) for name, cell in found.items() if cell.rows]
    if not cells:
        where = ", ".join(map(str, folders))
        raise SettingError(f"{where} has no results yet: run powercut eval until a first completion is graded")
    return cells, [*notes, *_unfinished(cells, [name for name, cell in found.items() if not cell.rows])]


def _unfinished(cells: Sequence[Cell], empty: Sequence[str]) -> list[str]:
    """What is still to come; in one line each for all cells where there are many."""
    parts = [cell for cell in cells if cell.expected and len(cell.problem) < cell.expected]
    notes = [f"{cell.name} is not finished: {len(cell.problem):,} of {cell.expected:,} completions" for cell in parts]
    if len(notes) > _FEW:
        done, expected = sum(len(cell.problem) for cell in parts), sum(cell.expected or 0 for cell in parts)
        notes = [f"{len(parts)} cells are not finished: {done:,} of {expected:,} completions"]
    if empty:
        names = ", ".join(empty) if len(empty) <= _FEW else f"{len(empty)} cells"
        notes.append(f"no results yet of {names}")
    return notes


def read_run(folder: Path) -> dict[str, Any]:
    """Read what run.json says. Raises SettingError for a folder that is not a run, or one of a newer format."""
    file = folder / "run.json"
    try:
        run = json.loads(file.read_bytes())
    except FileNotFoundError:
        state = "has no run.json" if folder.is_dir() else "is no folder"
        raise SettingError(f"{folder} is not a run: it {state}; give the folder that powercut eval wrote") from None
    except (OSError, ValueError) as error:
        raise SettingError(f"{folder} is not a run that can be read: {file}: {error}") from None
    version = run.get("format", FORMAT) if isinstance(run, dict) else None
    if not isinstance(version, int) or version > FORMAT:
        raise SettingError(f"{file} has format {version!r}, and this powercut reads up to {FORMAT}: update powercut")
    return dict(run)


def _read_cell(file: Path, notes: list[str]) -> dict[str, Any] | None:
    try:
        fields = json.loads(file.read_bytes())
        msgspec.convert(fields, About)
    except (OSError, ValueError) as error:  # msgspec's are ValueErrors too
        notes.append(f"{file} cannot be used, so its cell is left out: {error}")
        return None
    return dict(fields)


_decoder = msgspec.json.Decoder(Row, strict=False)  # not strict: infinities are written as strings


def _read_results(file: Path, rows: dict[tuple[str | int, int], Row], notes: list[str]) -> None:
    """Add the completions of one file to ``rows``; of two with the same problem and seed the later one holds."""
    before, lines, bad, first_bad = len(rows), 0, 0, ""
    try:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.isspace():
                    continue
                try:
                    row = _decoder.decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    if not line.endswith(b"\n"):
                        notes.append(f"{file}: the last line is torn (the run goes on, or was killed); left out")
                        continue
                    bad += 1
                    first_bad = first_bad or f"{file}, line {number}: {error}"
                    continue
                rows[row.id, row.seed] = row
                lines += 1
    except FileNotFoundError:
        return
    except OSError as error:
        notes.append(f"{file} cannot be read: {error.strerror}")
    if bad:
        notes.append(first_bad + (f"; left out, and {bad - 1} more such lines" if bad > 1 else "; left out"))
    if twice := before + lines - len(rows):
        notes.append(f"{file}: {twice} completions come twice (same problem and seed); the later ones count")


def _cell(name: str, found: _Found) -> Cell:
    about, rows = msgspec.convert(found.fields, About), list(found.rows.values())
    index = {key: i for i, key in enumerate(dict.fromkeys(row.id for row in rows))}
    return Cell(
        name=name,
        run=found.run,
        task=about.task,
        model=about.model,
        sampler=about.sampler,
        settings=about.settings,
        about=found.fields,
        expected=about.problems * len(about.seeds) if about.problems and about.seeds else None,
        ids=tuple(index),
        problem=np.array([index[row.id] for row in rows], dtype=np.int64),
        correct=np.array([bool(row.correct and not row.error) for row in rows]),
        failed=np.array([bool(row.error) for row in rows]),
        values={name: np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in NUMBERS},
    )
