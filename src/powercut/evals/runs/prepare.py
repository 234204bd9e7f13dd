"""From names to a plan: tasks with their problems, and the cells of a model."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from powercut.engines.protocol import Engine
from powercut.errors import SettingError, did_you_mean
from powercut.evals.graders.code import Execute
from powercut.evals.runs.plan import Benchmark, Cell, Choice
from powercut.evals.runs.sandbox import LocalSandbox
from powercut.evals.styles import STYLES, choose_style
from powercut.evals.tasks import TASKS


def load_benchmarks(
    names: Sequence[str], files: Sequence[str], limit: int | None, local: LocalSandbox | None
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


def make_cells(
    chosen: Mapping[Benchmark, Sequence[Choice]],
    model: str,
    engine: Engine,
    *,
    style: str | None,
    seeds: int,
    dtype: str | None = None,
) -> list[Cell]:
    """The cells of one model, in order; a best-of-n that is matched to a sampler has one for each cell of that."""
    if engine.text is None:
        raise SettingError("this engine has no tokenizer: benchmarks need a model that reads text")
    style = choose_style(style, f"{model} {engine.name}", engine.text.has_chat_template)
    cells = []
    for bench, choices in chosen.items():
        stop = STYLES[style].stop.get(bench.task.kind, ())
        made: list[tuple[Choice, Cell]] = []
        for choice in choices:
            sampler = replace(choice.sampler, stop=(*choice.sampler.stop, *stop))
            base = Cell(bench, model, choice.name, sampler, style, seeds, dtype)
            if choice.match is None:
                made.append((choice, base))
        matched = [
            replace(cell, sampler=choice.name, settings=replace(choice.sampler, stop=cell.settings.stop), matched=cell)
            for choice in choices
            if choice.match is not None
            for other, cell in made
            if other.name == choice.match
        ]
        cells += [*(cell for _, cell in made), *matched]
    return cells


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
    problems = task.problems(data=file, limit=limit)
    source = None
    if file is not None:
        source = {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    return Benchmark(task, problems, source, local if task.runs_code else None)


def _check_docker() -> None:
    remedy = "start it, or give --allow-unsafe-local to run such code on this machine"
    if shutil.which("docker") is None:
        raise SettingError(f"code that the model writes is run in docker, which is not installed here: {remedy}")
    try:
        subprocess.run(["docker", "info"], capture_output=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        raise SettingError(f"code that the model writes is run in docker, which does not answer: {remedy}") from None
