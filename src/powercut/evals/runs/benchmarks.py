"""Tasks with their problems at hand, from the names and files of a command."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from powercut.errors import SettingError, did_you_mean
from powercut.evals.problem import Problem
from powercut.evals.sandbox.execution import Execute
from powercut.evals.tasks import TASKS
from powercut.evals.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A task with its problems.

    ``data`` is the file they come from and its hash, None for the task's own. ``execute`` runs the programs of a task
    that grades by them; without it they run in Inspect's docker sandbox. ``reshuffle`` reads them again, with the order
    of choices that a seed gives.
    """

    task: Task
    problems: Sequence[Problem]
    data: Mapping[str, Any] | None = None
    execute: Execute | None = None
    reshuffle: Callable[[int], Sequence[Problem]] | None = None

    @property
    def name(self) -> str:
        """The task's name on the command line."""
        return self.task.name

    @property
    def defaults(self) -> dict[str, Any]:
        """The settings that the task was published with."""
        return {"alpha": self.task.alpha, "max_new_tokens": self.task.max_new_tokens}


def load_benchmarks(
    names: Sequence[str], files: Sequence[str], limit: int | None, local: Execute | None
) -> list[Benchmark]:
    """The tasks called ``names`` with their first ``limit`` problems (None: all).

    ``files`` are data files, as ``FILE`` where there is one task or ``TASK=FILE``. ``local`` runs the programs of tasks
    that need it; without it they need docker.

    Raises SettingError, naming the remedy, for an unknown task, for data that cannot be had, and without docker.
    """
    for name in names:
        if name not in TASKS:
            hint = did_you_mean(name, TASKS)
            raise SettingError(f"there is no task {name!r}{hint}: the tasks are {', '.join(TASKS)}")
    data = _files(names, files)
    if local is None and any(TASKS[name].runs_code for name in names):
        _check_docker()
    return [_load(name, data.get(name), limit, local) for name in names]


def _files(names: Sequence[str], files: Sequence[str]) -> dict[str, Path]:
    data = {}
    for given in files:
        name, equals, file = given.partition("=")
        if not equals or name not in TASKS:
            if len(names) > 1:
                raise SettingError(f"--data {given} must say for which task: give TASK={given}")
            name, file = names[0], given
        if name not in names:
            raise SettingError(f"--data {given} is for {name}, which is not among the tasks")
        if name in data:
            raise SettingError(f"--data gives {name} two files: give one")
        data[name] = Path(file)
    return data


def _load(name: str, file: Path | None, limit: int | None, local: Execute | None) -> Benchmark:
    task = TASKS[name]

    def read(seed: int | None) -> Sequence[Problem]:
        return task.problems(data=file, limit=limit, seed=seed)

    problems = read(None)
    source = None
    if file is not None:
        source = {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    return Benchmark(task, problems, source, local if task.runs_code else None, read)


def _check_docker() -> None:
    remedy = "start it, or give --allow-unsafe-local to run such code on this machine"
    if shutil.which("docker") is None:
        raise SettingError(f"code that the model writes is run in docker, which is not installed here: {remedy}")
    try:
        subprocess.run(["docker", "info"], capture_output=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        raise SettingError(f"code that the model writes is run in docker, which does not answer: {remedy}") from None
