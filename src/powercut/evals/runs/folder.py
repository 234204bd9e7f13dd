"""The run folder: what ``powercut eval`` writes, and finds again after an interruption. ``powercut report`` reads it.

    RUN/run.json                   format, when, by which command and versions; ``resumed``: the same of later runs
    RUN/cells/CELL/cell.json       task, model, sampler, settings, seeds, problems (how many), data, prompt_style,
                                   matched (the cell whose cost best-of-n was given)
    RUN/cells/CELL/results.jsonl   a line for each completion that was graded, written as it finishes
    RUN/cells/CELL/completions.jsonl   completions that are sampled and not yet graded
    RUN/logs/*.eval                Inspect's logs, for ``inspect view``

A line of results.jsonl: task, model, sampler, cell, id (the problem's), seed (0, 1, ...), correct, answer, reason, logp
(nats), entropy (mean next-token entropy over the completion, nats), tokens (kept), finished, acceptance, steps,
tokens_decoded, tokens_prefilled, seconds, log_z, sampler_seed (the seed that gives this completion in
``powercut.sample``), text, error. What ended with an error is tried again with the command, and gets a new line.

A line counts once its newline is on the disk: each is written and synced before the work goes on, and what a killed
process left of one is cut off. One process at a time writes to a run.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from powercut.errors import PowercutError, SettingError
from powercut.records import json_line, strict

FORMAT = 1

Key = tuple[str, int]
"""A problem's id and a seed."""


class RunFolder:
    """A run folder, locked for this process while it is entered.

    Raises SettingError when another process has it, when it is a folder of something else, or of a newer format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / ".lock")
        self._before: dict[str, Any] | None = None

    def __enter__(self) -> RunFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._before = self._read()
            self._lock.acquire(timeout=0)
        except Timeout:
            remedy = "wait for it, or give another folder"
            raise SettingError(f"{self.path} is in use by another powercut eval: {remedy}") from None
        except OSError as error:
            raise SettingError(f"cannot write to {self.path}: {error.strerror or error}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @property
    def logs(self) -> Path:
        """Where Inspect's logs go."""
        return self.path / "logs"

    def record(self, facts: Mapping[str, Any]) -> None:
        """Note in run.json how this process was called: as the run's beginning, or as one that resumed it.

        Called again it notes ``facts`` in place of what this process noted before.
        """
        if self._before is None:
            run = {"format": FORMAT, **facts}
        else:
            run = {**self._before, "resumed": [*self._before.get("resumed", []), facts]}
        write_whole(self.path / "run.json", json.dumps(strict(run), indent=1, ensure_ascii=False) + "\n")

    def cell(self, about: Mapping[str, Any], name: str, wanted: Collection[Key]) -> CellFolder:
        """The folder of a cell, whose cell.json says ``about``; ``wanted`` are the completions it should have."""
        path = self.path / "cells" / name
        path.mkdir(parents=True, exist_ok=True)
        file = path / "cell.json"
        if file.exists():  # of a run that is taken up again with fewer seeds or problems nothing is dropped
            before = json.loads(file.read_bytes())
            about = {**about, **{size: max(before[size], about[size]) for size in ("seeds", "problems")}}
        write_whole(file, json.dumps(strict(about), indent=1, ensure_ascii=False) + "\n")
        return CellFolder(path, wanted)

    def _read(self) -> dict[str, Any] | None:
        file = self.path / "run.json"
        try:
            run = json.loads(file.read_bytes())
        except FileNotFoundError:
            if any(entry.name not in (".lock", "run.json.tmp") for entry in self.path.iterdir()):
                raise SettingError(f"{self.path} holds other files and no run: give a new folder") from None
            return None
        except ValueError as error:
            raise SettingError(f"{file} cannot be read ({error}): give a new folder") from None
        if not isinstance(run, dict) or run.get("format") != FORMAT:
            raise SettingError(f"{file} is not of format {FORMAT}, which this powercut writes: give a new folder")
        return run


class CellFolder:
    """One cell's files. ``done`` are the graded completions without their texts, ``sampled`` those yet to be graded."""

    def __init__(self, path: Path, wanted: Collection[Key]) -> None:
        self._results, self._completions = Lines(path / "results.jsonl"), Lines(path / "completions.jsonl")
        rows = {_key(row): row for row in self._results.read()}
        again = {key for key, row in rows.items() if row["error"] is not None and key in wanted}
        if again:
            self._results.replace(row for key, row in rows.items() if key not in again)
        self.done: dict[Key, dict[str, Any]] = {key: _short(row) for key, row in rows.items() if key not in again}
        self.sampled = {_key(row): row for row in self._completions.read()}
        self.close()

    async def add_completion(self, row: dict[str, Any]) -> None:
        """Keep a completion that was sampled, so that it need not be sampled again."""
        await asyncio.to_thread(self._completions.append, row)
        self.sampled[_key(row)] = row

    async def add_result(self, row: dict[str, Any]) -> None:
        """Keep a graded completion, or one that failed."""
        await asyncio.to_thread(self._results.append, row)
        self.done[_key(row)] = _short(row)

    def close(self) -> None:
        """Drop the completions that are graded by now; a grader's failure leaves them."""
        graded = {key for key, row in self.done.items() if row["error"] is None}
        if graded & self.sampled.keys():
            self.sampled = {key: row for key, row in self.sampled.items() if key not in graded}
            self._completions.replace(self.sampled.values())


class Lines:
    """A file of JSON lines that survives a kill at any moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def read(self) -> list[dict[str, Any]]:
        """Every line; what a kill left of a last one is cut off. SettingError, naming the line, for what is no JSON."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self._path, whole)
        rows = []
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                row = json.loads(line)
                rows.append({"error": None, **row, "id": str(row["id"]), "seed": int(row["seed"])})
            except (ValueError, TypeError, KeyError) as error:
                remedy = "delete the line, and its completion is sampled again"
                raise SettingError(f"{self._path}:{number} is no result ({error}): {remedy}") from None
        return rows

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a line and wait until it is on the disk. PowercutError, with nothing added, if that fails."""
        data = _encode(row)
        with self._lock:
            try:
                new = not self._path.exists()
                with self._path.open("ab", buffering=0) as file:
                    before = file.tell()
                    try:
                        if file.write(data) != len(data):
                            raise OSError(28, "No space left on device")
                        os.fsync(file)
                    except BaseException:
                        file.truncate(before)
                        raise
                if new:
                    _sync_folder(self._path.parent)
            except OSError as error:
                raise PowercutError(f"cannot write {self._path}: {error.strerror}") from error

    def replace(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write these lines in place of all others, or none at all if that fails. No line: no file."""
        data = b"".join(map(_encode, rows))
        if data:
            write_whole(self._path, data)
        else:
            self._path.unlink(missing_ok=True)


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a file so that at any moment either the old one or the new one is there."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as file:
        file.write(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync_folder(path.parent)


def _encode(row: Mapping[str, Any]) -> bytes:
    return json_line(row).encode("utf-8", "backslashreplace")  # a lone surrogate becomes the escape that JSON has


def _sync_folder(path: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _key(row: Mapping[str, Any]) -> Key:
    return row["id"], row["seed"]


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "text"}
