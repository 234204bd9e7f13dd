"""The run folder: what ``powercut eval`` writes, and finds again after an interruption. ``powercut report`` reads it.

    RUN/run.json                       records.RunFacts
    RUN/cells/CELL/cell.json           records.CellFacts
    RUN/cells/CELL/results.jsonl       a records.Result for each completion that was graded, as it finishes
    RUN/cells/CELL/completions.jsonl   completions that are sampled and not yet graded
    RUN/cells/CELL/steps/*.jsonl.gz    the steps of a completion, where they are asked for: on the disk before its line
    RUN/logs/*.eval                    Inspect's logs, for ``inspect view``

What ended with an error is tried again with the command, and gets a new line.

A line counts once its newline is on the disk: each is written and synced before the work goes on, and what a killed
process left of one is cut off. One process at a time writes to a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from pathlib import Path
from typing import NoReturn

from filelock import FileLock

from powercut.durable import DRAFT, Lines, encode, one_system_line, write_whole
from powercut.errors import SettingError
from powercut.evals.runs.step_file import StepFile
from powercut.locking import lock_folder
from powercut.records import (
    STEPS,
    BadLine,
    CellFacts,
    Result,
    RunFacts,
    read_cell,
    read_results,
    read_run,
    step_file,
)
from powercut.strict_json import json_file

Key = tuple[str, int]
"""A problem's id and a seed."""

_WRITERS = 4
"""Files that are written at once: a disk that syncs slowly holds up one cell, not all."""


class RunFolder:
    """A run folder, locked for this process while it is entered.

    Raises SettingError when another process has it, when it is a folder of something else, or of a newer format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / ".lock")
        self._before: RunFacts | None = None
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="powercut-writer")

    def __enter__(self) -> RunFolder:
        self._before = lock_folder(self.path, self._lock, self._read, "eval")
        return self

    def __exit__(self, *_: object) -> None:
        self._writers.shutdown()  # waits: the next process must not read while this one writes
        self._lock.release()

    @property
    def logs(self) -> Path:
        """Where Inspect's logs go."""
        return self.path / "logs"

    def record(self, facts: RunFacts) -> None:
        """Note in run.json how this process was called: as the run's beginning, or as one that resumed it.

        Called again it notes ``facts`` in place of what this process noted before.
        """
        if (run := self._before) is None:
            run = facts
        else:
            again = {name: value for name, value in asdict(facts).items() if name not in ("format", "resumed")}
            run = replace(run, resumed=(*(run.resumed or ()), again))
        write_whole(self.path / "run.json", json_file(run))
        for folder in (self.logs, self.path / "cells"):
            with one_system_line(folder):
                folder.mkdir(exist_ok=True)

    def cell(self, facts: CellFacts, name: str, keys: Collection[Key], *, regrade: bool = False) -> CellFolder:
        """The folder of a cell, whose cell.json says ``facts``; ``keys`` are the completions it should have.

        ``regrade`` takes the grades of these away, so that they are to be graded and not to be sampled.
        """
        path = self.path / "cells" / name
        file = path / "cell.json"
        with one_system_line(path):
            path.mkdir(parents=True, exist_ok=True)
        if file.exists():  # of a run that is taken up again with fewer seeds or problems nothing is dropped
            before = read_cell(file)
            seeds = max(before.seeds or (), facts.seeds or (), key=len)
            facts = replace(facts, seeds=seeds, problems=max(before.problems or 0, facts.problems or 0))
        write_whole(file, json_file(facts))
        return CellFolder(path, keys, self._writers, regrade)

    def _read(self) -> RunFacts | None:
        facts = read_run(self.path)
        if facts is None and any(entry.name not in (".lock", "run.json.tmp") for entry in self.path.iterdir()):
            raise SettingError(f"{self.path} holds other files and no run: give a new folder")
        return facts


class CellFolder:
    """One cell's files. ``done`` are the graded completions, ``sampled`` those yet to be graded.

    Of what is done neither texts nor chains are held.
    What is given to be written is written, even if the one who waits for it is cancelled; ``writers`` are threads.
    """

    def __init__(self, path: Path, keys: Collection[Key], writers: ThreadPoolExecutor, regrade: bool = False) -> None:
        self._path, self._writers, self._writing = path, writers, set[Future[None]]()
        with one_system_line(path):
            for draft in (path / STEPS).glob(f"*{DRAFT}"):  # of a process that was killed
                draft.unlink()
        self._results, self._completions = ResultLines(path / "results.jsonl"), ResultLines(path / "completions.jsonl")
        found = self._results.read()
        self.sampled = {key: result for key, (result, _) in self._completions.read(graded=False).items()}
        again = {key for key, (result, _) in found.items() if result.error is not None and key in keys}
        if regrade and (taken := {key for key in found if key in keys and key not in again}):
            ungraded = {key: replace(found[key][0], correct=None, answer=None, reason=None) for key in taken}
            self.sampled |= ungraded
            self._completions.replace(map(encode, self.sampled.values()))  # on the disk before the grades leave it
            again |= taken
        if again:
            self._results.replace(line for key, (_, line) in found.items() if key not in again)
        self.done = {key: _without_text(result) for key, (result, _) in found.items() if key not in again}
        self.close()

    def steps(self, key: Key) -> StepFile:
        """The file of a completion's steps, to be written while it is drawn."""
        return StepFile(step_file(self._path, *key))

    async def add_completion(self, result: Result, steps: StepFile | None = None) -> None:
        """Keep a completion that was sampled, so that it need not be sampled again; and its steps, before it counts.

        Without ``steps`` those are removed that a killed process left of the same completion, before it counted.
        """

        def write() -> None:
            (steps or self.steps(key_of(result))).keep()
            self._completions.append(result)
            self.sampled[key_of(result)] = result

        await self._write(write)

    async def add_result(self, result: Result) -> None:
        """Keep a graded completion, or one that failed."""

        def write() -> None:
            self._results.append(result)
            self.done[key_of(result)] = _without_text(result)

        await self._write(write)

    async def settle(self) -> None:
        """Wait for what is being written, in the event loop that gave it: it may end after this."""
        await asyncio.gather(*map(asyncio.wrap_future, tuple(self._writing)), return_exceptions=True)

    def close(self) -> None:
        """Wait for what is being written, and drop the completions that are graded; a grader's failure leaves them."""
        wait(tuple(self._writing))
        graded = {key for key, result in self.done.items() if result.error is None}
        if graded & self.sampled.keys():
            self.sampled = {key: result for key, result in self.sampled.items() if key not in graded}
            self._completions.replace(map(encode, self.sampled.values()))

    async def _write(self, write: Callable[[], None]) -> None:
        future = self._writers.submit(write)
        self._writing.add(future)
        future.add_done_callback(self._writing.discard)
        await asyncio.shield(asyncio.wrap_future(future))


class ResultLines(Lines):
    """A file of results."""

    def read(self, *, graded: bool = True) -> dict[Key, tuple[Result, bytes]]:
        """Every result with its line; what a kill left of a last one is cut off.

        Raises SettingError, which names the line, for what is none.
        """
        with one_system_line(self.path):
            self.cut_torn_line()
            found = read_results(self.path, _refuse, graded=graded)
            return {key_of(result): (result, line) for result, line in found}


def key_of(result: Result) -> Key:
    """The problem's id and the seed of a result."""
    return str(result.id), result.seed


def _refuse(bad: BadLine) -> NoReturn:
    remedy = "delete the line, and its completion is sampled again"
    raise SettingError(f"{bad.place} is no result ({bad.reason}): {remedy}")


def _without_text(result: Result) -> Result:
    return replace(result, text=None, chain=None)
