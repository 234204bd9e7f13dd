"""Run folders, read: every graded completion of every cell, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powercut.errors import SettingError, visible
from powercut.records import MEASURES, BadLine, CellFacts, Result, RunFacts, read_cell, read_results, read_run

_FEW = 3
"""More cells than this are not named one by one."""


@dataclass(frozen=True, eq=False)
class CellResults:
    """The completions of one cell as columns ``[n]``.

    ``problem`` indexes ``ids``; ``measures`` has a float column for each of MEASURES, NaN where there is none;
    ``folders`` are the cell's folders from which the results were read.
    """

    name: str
    facts: CellFacts
    ids: tuple[str | int, ...]
    problem: NDArray[np.int64]
    seed: NDArray[np.int64]
    correct: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    measures: dict[str, NDArray[np.float64]]
    folders: tuple[Path, ...]

    @property
    def expected(self) -> int | None:
        """How many completions the whole run will have, where that is known."""
        facts = self.facts
        return facts.problems * len(facts.seeds) if facts.problems and facts.seeds else None

    def by_problem(self, column: NDArray[Any]) -> NDArray[np.float64]:
        """Mean of a column over each problem's completions ``[problems]``; NaN where a problem has no number."""
        known = ~np.isnan(column) if column.dtype.kind == "f" else np.ones(len(column), dtype=bool)
        at, size = self.problem[known], len(self.ids)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.bincount(at, column[known], size) / np.bincount(at, minlength=size))


_Results = dict[tuple[str | int, int], tuple[Result, Path]]


@dataclass
class _Found:
    """A cell while its files are read; of each result the folder from which it was read."""

    facts: CellFacts
    results: _Results = field(default_factory=dict)


def read_runs(folders: Sequence[Path]) -> tuple[list[CellResults], dict[Path, RunFacts], list[str]]:
    """Read run folders; a cell that several of them have is one cell with the completions of all.

    Returns the cells that have completions, what each run.json says, and notes for the reader, a line each: what was
    left out and why, and what is not finished. Raises SettingError for a folder that is not a run, and when there are
    no results at all.
    """
    runs: dict[Path, RunFacts] = {}
    found: dict[str, _Found] = {}
    notes: list[str] = []
    for folder in folders:
        runs[folder] = _shown(_run(folder))
        for file in _cell_files(folder / "cells", notes):
            try:
                cell = found.setdefault(visible(file.parent.name), _Found(_shown(read_cell(file))))
            except SettingError as error:
                notes.append(f"a cell is left out: {error}")
            else:
                _add_results(file.with_name("results.jsonl"), cell.results, notes)
    cells = [_columns(name, cell) for name, cell in found.items() if cell.results]
    if not cells:
        where = ", ".join(map(str, folders))
        why = notes[0] if notes else "run powercut eval until a first completion is graded"
        raise SettingError(f"{where} has no results yet: {why}")
    return cells, runs, [*notes, *_unfinished(cells, [name for name, cell in found.items() if not cell.results])]


def _run(folder: Path) -> RunFacts:
    if (facts := read_run(folder)) is None:
        state = "has no run.json" if folder.is_dir() else "is no folder"
        raise SettingError(f"{folder} is not a run: it {state}; give the folder that powercut eval wrote")
    return facts


def _cell_files(cells: Path, notes: list[str]) -> list[Path]:
    """Every cell.json there, those that cannot be read too; a note if nothing of the folder can."""
    try:
        files = [each / "cell.json" for each in sorted(cells.iterdir())]
    except FileNotFoundError:
        return []
    except OSError as error:
        notes.append(f"{cells} cannot be read: {error.strerror}")
        return []
    return [file for file in files if not _missing(file)]


def _missing(file: Path) -> bool:
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # reading it will say why
        return False
    return False


def _shown(value: Any) -> Any:
    """A record, or a value inside one, whose texts can be drawn and do nothing else."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(key): _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_shown, value))
    if isinstance(value, CellFacts | RunFacts):
        return replace(value, **{each.name: _shown(getattr(value, each.name)) for each in fields(value)})
    return value


def _unfinished(cells: Sequence[CellResults], empty: Sequence[str]) -> list[str]:
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


def _add_results(file: Path, results: _Results, notes: list[str]) -> None:
    """Add what one file has to ``results``; of two with the same problem and seed the later one holds."""
    before, read = len(results), 0
    bad: list[BadLine] = []
    try:
        for result, _ in read_results(file, bad.append, texts=False):
            results[result.id, result.seed] = result, file.parent
            read += 1
    except OSError as error:
        notes.append(f"{file} cannot be read: {error.strerror}")
    if bad and bad[-1].torn:
        bad.pop()
        notes.append(f"{file}: the last line is torn (the run goes on, or was killed); left out")
    if bad:
        more = f", and {len(bad) - 1} more such lines" if len(bad) > 1 else ""
        notes.append(f"{bad[0].place} is no result: {bad[0].reason}; left out{more}")
    if twice := before + read - len(results):
        notes.append(f"{file}: {twice} completions come twice (same problem and seed); the later ones count")


def _columns(name: str, cell: _Found) -> CellResults:
    results, folders = zip(*cell.results.values(), strict=True)
    index = {key: i for i, key in enumerate(dict.fromkeys(result.id for result in results))}
    return CellResults(
        name=name,
        facts=cell.facts,
        ids=tuple(index),
        problem=np.array([index[result.id] for result in results], dtype=np.int64),
        seed=np.array([result.seed for result in results]),
        correct=np.array([bool(result.correct and not result.error) for result in results]),
        failed=np.array([bool(result.error) for result in results]),
        measures={each: np.array([getattr(result, each) for result in results], dtype=np.float64) for each in MEASURES},
        folders=folders,
    )
