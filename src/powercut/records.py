"""What is on disk, as JSON: completions, steps, results, cells and runs. Written and read here alone.

    sample --json               a Completed a line
    sample --save-trace         what each line's "kind" says (step_lines.py), completions among them
    RUN/run.json                RunFacts
    RUN/cells/CELL/cell.json    CellFacts
    RUN/cells/CELL/results.jsonl, completions.jsonl    a Result a line, graded and not graded yet
    RUN/cells/CELL/steps/*.jsonl.gz                    eval --save-trace: the same lines, a file a completion

A field that may be None may be missing, and one that is not known here is passed over: an older or a newer powercut
wrote it. What cannot be read is named with its file and line.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from powercut.errors import SettingError, one_line
from powercut.stage_log import LastStage
from powercut.strict_json import from_json
from powercut.trace import Completion, IntArray, Stats

FORMAT = 1
"""Of run folders: the one written, and the newest one read."""

MEASURES = (
    *("logp", "entropy", "acceptance", "changed", "steps", "tokens", "tokens_decoded", "tokens_prefilled", "seconds"),
    *("null_steps", "log_z", "finished", "satisfied"),
)
"""What a Result measures of its completion."""

_GZIP = b"\x1f\x8b"
"""With which a packed file begins."""

STEPS, STEP_FILE = "steps", ".jsonl.gz"
"""The folder of a cell's step files, and the end of their names."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One completion of a benchmark and its grade.

    ``id`` is the problem's, ``seed`` counts its completions 0, 1, ...; ``sampler_seed`` is the seed that gives this
    completion in ``powercut.sample``. ``correct`` is None before it is graded. With an ``error`` the completion, or its
    grade, failed. ``logp`` and ``entropy`` (next-token, mean over the completion) are in nats, ``tokens`` is the
    completion's length, the other measures are those of Stats. ``chain`` is there for
    samplers whose stages have steps.
    """

    id: str | int
    seed: int = 0
    task: str = ""
    model: str = ""
    sampler: str = ""
    cell: str = ""
    correct: bool | None = None
    answer: str | None = None
    reason: str | None = None
    error: str | None = None
    logp: float | None = None
    entropy: float | None = None
    acceptance: float | None = None
    changed: float | None = None
    steps: float | None = None
    null_steps: float | None = None
    tokens: float | None = None
    tokens_decoded: float | None = None
    tokens_prefilled: float | None = None
    seconds: float | None = None
    log_z: float | None = None
    finished: bool | None = None
    satisfied: bool | None = None
    sampler_seed: int | None = None
    text: str | None = None
    chain: LastStage | None = None


@dataclass(frozen=True, kw_only=True)
class CellFacts:
    """One task, model and sampler with its settings.

    ``problems`` counts the task's problems, ``seeds`` lists the completions of each. ``data`` names the problems' file
    and its hash, None for the task's own; ``matched`` is the cell whose cost best-of-n was given.
    """

    task: str
    model: str
    sampler: str
    settings: Mapping[str, Any]
    problems: int | None = None
    seeds: tuple[int, ...] | None = None
    data: Mapping[str, Any] | None = None
    prompt_style: str | None = None
    template_args: Mapping[str, Any] | None = None
    dtype: str | None = None
    matched: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """How a run was made. ``engines`` describes each model; ``resumed`` has the same facts of later calls."""

    format: int = FORMAT
    created: str | None = None
    argv: tuple[str, ...] | None = None
    powercut: str | None = None
    python: str | None = None
    platform: str | None = None
    libraries: Mapping[str, Any] | None = None
    git: Mapping[str, Any] | None = None
    engines: Mapping[str, Any] | None = None
    resumed: tuple[Mapping[str, Any], ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Completed:
    """A completion of ``powercut sample`` with what it was drawn with; ``meta`` holds its prompt's other fields."""

    prompt_index: int
    sample_index: int
    text: str | None
    tokens: IntArray
    logp: float
    finished: bool
    sampler: str
    settings: Mapping[str, Any]
    seed: int
    model: str
    stats: Stats
    meta: Mapping[str, Any]
    template_args: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        completion: Completion,
        *,
        sampler: str,
        settings: Mapping[str, Any],
        seed: int,
        model: str,
        meta: Mapping[str, Any],
        template_args: Mapping[str, Any] | None = None,
    ) -> Completed:
        """The record of a completion."""
        return cls(
            prompt_index=completion.prompt_index,
            sample_index=completion.sample_index,
            text=completion.text,
            tokens=completion.tokens,
            logp=completion.logp,
            finished=completion.finished,
            sampler=sampler,
            settings=settings,
            seed=seed,
            model=model,
            stats=completion.stats,
            meta=meta,
            template_args=template_args,
        )


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be read: FILE:LINE, and why. ``torn``: it is the last one and has no end."""

    place: str
    reason: str
    torn: bool


def measures(completion: Completion) -> dict[str, Any]:
    """MEASURES of a completion, and the rest of its Stats."""
    kept = len(completion.tokens)
    entropy = float(completion.trace.entropy.mean()) if kept else 0.0
    known = {"logp": completion.logp, "entropy": entropy, "tokens": kept, "finished": completion.finished}
    return known | {field.name: getattr(completion.stats, field.name) for field in fields(completion.stats)}


def as_result(found: Mapping[str, Any]) -> Result:
    """The result whose fields these are, as JSON has them; ValueError, in plain words, for what is none."""
    return from_json(Result, found)


def read_results(
    file: Path, bad: Callable[[BadLine], None], *, graded: bool = True, texts: bool = True
) -> Iterator[tuple[Result, bytes]]:
    """Every result of a file with its line; ``bad`` is called with what is none, and may raise.

    A file that is not there has none. With ``graded`` a line without ``correct`` is bad; without ``texts`` the
    completions' texts and chains are dropped. Raises OSError.
    """
    try:
        stream = open_file(file)
    except FileNotFoundError:
        return
    with stream:
        for number, line in enumerate(stream, start=1):
            if line.isspace():
                continue
            try:
                found = json.loads(line)
                if not texts and isinstance(found, dict):
                    found = {name: value for name, value in found.items() if name not in ("text", "chain")}
                result = as_result(found)
                if graded and "correct" not in found:
                    raise ValueError("it has no correct")
            except (ValueError, RecursionError) as error:
                bad(BadLine(f"{file}:{number}", one_line(error), not line.endswith(b"\n")))
            else:
                yield result, line


def read_cell(file: Path) -> CellFacts:
    """What cell.json says. Raises SettingError, which names the file."""
    return read_record(CellFacts, file)


def read_run(folder: Path) -> RunFacts | None:
    """What run.json says, None where there is none. Raises SettingError, which names the file."""
    file = folder / "run.json"
    if not file.exists():
        return None
    facts = read_record(RunFacts, file)
    if facts.format > FORMAT:
        raise SettingError(f"{file} has format {facts.format}, and this powercut reads up to {FORMAT}: update powercut")
    return facts


def read_lines(file: Path) -> list[bytes]:
    """The lines of a file, the last without an end. Raises SettingError for one that cannot be read."""
    return _read(file).split(b"\n")


def _read(file: Path) -> bytes:
    try:
        with open_file(file) as stream:
            return stream.read()
    except (OSError, EOFError, zlib.error) as error:  # the last two: of a compressed file
        raise SettingError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def step_file(cell: Path, problem: str | int, seed: int) -> Path:
    """Where a cell's folder has the steps of a completion: a name that any file system takes, of no other one."""
    name = re.sub(r"[^a-z0-9_.-]+", "-", str(problem).lower())[:80].strip(".-")
    if name != str(problem):
        digest = hashlib.sha256(str(problem).encode("utf-8", "backslashreplace")).hexdigest()[:8]
        name = f"{name}-{digest}".strip("-")
    return cell / STEPS / f"{name}--{seed}{STEP_FILE}"


def read_completions(file: Path) -> list[Completed]:
    """The completions that ``powercut sample --json`` wrote, or those among the proposals of ``--save-trace``.

    Raises SettingError, with file and line, for what is none, and for a file without any.
    """
    found = []
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip():
            try:
                values = json.loads(line)
                if not isinstance(values, dict) or values.get("kind", "completion") == "completion":
                    found.append(from_json(Completed, values))
            except (ValueError, RecursionError) as error:
                raise SettingError(f"{file}:{number} is no completion that powercut wrote: {one_line(error)}") from None
    if not found:
        raise SettingError(f"{file} has no completions")
    return found


def open_file(file: Path) -> BinaryIO:
    """A file to read, unpacked if its first bytes say that it is packed, whatever its name.

    Raises OSError for a folder, and for a device or a pipe, which need not end.
    """
    mode = file.stat().st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR)) if stat.S_ISDIR(mode) else OSError(0, "It is no file")
    with file.open("rb") as stream:
        packed = stream.read(len(_GZIP)) == _GZIP
    return cast(BinaryIO, gzip.open(file)) if packed else file.open("rb")


def read_record(kind: type[T], file: Path) -> T:
    """The dataclass whose JSON a file holds. Raises SettingError, which names the file."""
    data = _read(file)
    try:
        return from_json(kind, json.loads(data))
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{file} cannot be read: {one_line(error)}") from None
