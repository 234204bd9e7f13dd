"""What a run consists of: a cell for each task, model, sampler and choice of settings."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from powercut.errors import SettingError
from powercut.evals.graders.code import Execute
from powercut.evals.problem import Problem
from powercut.evals.runs.folder import Key
from powercut.evals.tasks import Task
from powercut.records import strict
from powercut.samplers import SAMPLERS, Sampler
from powercut.samplers.named import build_sampler, owners_of

BEST_OF_N = "best-of-n"


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A task with its problems at hand.

    ``data`` is the file they come from and its hash, None for the task's own. ``execute`` runs the programs of a task
    that grades by them; without it they run in Inspect's docker sandbox.
    """

    task: Task
    problems: Sequence[Problem]
    data: Mapping[str, Any] | None = None
    execute: Execute | None = None

    @property
    def name(self) -> str:
        """The task's."""
        return self.task.name

    @property
    def defaults(self) -> dict[str, Any]:
        """The settings that the task was published with."""
        return {"alpha": self.task.alpha, "max_new_tokens": self.task.max_new_tokens}


@dataclass(frozen=True, eq=False)
class Choice:
    """A sampler with its name; best-of-n may be matched in cost to the sampler called ``match``."""

    name: str
    sampler: Sampler
    match: str | None = None


def choices(
    samplers: Sequence[str],
    settings: Mapping[str, Sequence[Any]],
    defaults: Mapping[str, Any],
    match: str | None = None,
    spell: Callable[[str], str] = str,
) -> list[Choice]:
    """Every sampler with every combination of the values that ``settings`` gives for settings it has.

    ``defaults`` hold for settings that are not given; ``match`` is the sampler whose cost best-of-n may spend.
    Raises SettingError for a setting that none of the samplers has, and as ``build_sampler`` does.
    """
    for name in samplers:
        build_sampler(name, {})  # or say that there is none
    for setting in settings:
        if not set(owners_of(setting)) & set(samplers):
            owners = ", ".join(owners_of(setting))
            raise SettingError(f"{spell(setting)} is a setting of {owners}: not among the samplers here")
    if match is not None:
        _check_match(match, samplers, settings, spell)
    found: dict[tuple[str, str], Choice] = {}
    for name in samplers:
        has = SAMPLERS[name].__dataclass_fields__
        given = {setting: values for setting, values in settings.items() if setting in has}
        own = {setting: value for setting, value in defaults.items() if setting in has}
        for values in itertools.product(*given.values()):
            sampler = build_sampler(name, {**own, **dict(zip(given, values, strict=True))}, spell)
            matched = match if name == BEST_OF_N else None
            found.setdefault((name, repr(sampler)), Choice(name, sampler, matched))
    return list(found.values())


@dataclass(frozen=True, eq=False)
class Cell:
    """Completions of one task by one model, drawn by one sampler with one choice of settings.

    ``style`` is the name of the prompt style and ``seeds`` the number of completions of each problem. ``dtype`` is the
    model's, where the user chose one. ``matched`` is the cell whose cost on each problem and seed best-of-n may spend.
    """

    bench: Benchmark
    model: str
    sampler: str
    settings: Sampler
    style: str
    seeds: int
    dtype: str | None = None
    matched: Cell | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """All that changes a completion or its grade. Seeds and problems are not in it: a cell may grow by more."""
        found: dict[str, Any] = {
            "task": self.bench.name,
            "model": self.model,
            "sampler": self.sampler,
            "settings": strict(asdict(self.settings)),
            "data": self.bench.data and {"sha256": self.bench.data["sha256"]},  # wherever the file lies
            "prompt_style": self.style,
        }
        if self.dtype is not None:
            found["dtype"] = self.dtype
        if self.matched is not None:
            found["matched"] = self.matched.name
        return found

    @property
    def name(self) -> str:
        """Readable, and unlike that of any other cell: the name of its folder."""
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:8]
        model = re.sub(r"[^\w.-]+", "-", self.model.rstrip("/").rsplit("/", 1)[-1]).strip("-") or "model"
        return f"{self.bench.name}--{model}--{self.sampler}--{digest}"

    @property
    def about(self) -> dict[str, Any]:
        """What cell.json says."""
        size = {"seeds": list(range(self.seeds)), "problems": len(self.bench.problems)}
        return {**self.identity, "data": self.bench.data, **size}

    def completions(self) -> Iterator[Key]:
        """The completions it should have: every problem once, then every problem with the next seed."""
        for seed in range(self.seeds):
            for problem in self.bench.problems:
                yield problem.id, seed


def sampler_seed(task: str, problem: str, seed: int) -> int:
    """The seed of a problem's completion: a function of names and numbers alone, whatever else is in the run."""
    digest = hashlib.sha256(json.dumps([task, problem, seed]).encode()).digest()
    return int.from_bytes(digest[:8]) >> 11  # 53 bits: exact as JSON


def _check_match(match: str, samplers: Sequence[str], settings: Mapping[str, Any], spell: Callable[[str], str]) -> None:
    for name in (BEST_OF_N, match):
        if name not in samplers:
            raise SettingError(f"{spell('match')} {match} needs the sampler {name} in the same run")
    if match == BEST_OF_N:
        raise SettingError(f"{spell('match')} must name another sampler than {BEST_OF_N}")
    for name in ("n", "budget"):
        if name in settings:
            raise SettingError(f"{spell(name)} and {spell('match')} say the same thing twice: give one of them")
