"""What a run consists of: a cell for each task, model, sampler and variant of its settings."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from powercut.engines.protocol import Engine
from powercut.errors import SettingError
from powercut.evals.problem import Problem
from powercut.evals.runs.benchmarks import Benchmark
from powercut.evals.runs.folder import Key
from powercut.evals.styles import STYLES, choose_style
from powercut.prompt import TemplateArgs
from powercut.records import CellFacts
from powercut.samplers import BEST_OF_N, SAMPLERS, Sampler
from powercut.samplers.named import build_sampler, owners_of
from powercut.strict_json import strict

_LONGEST_MODEL = 150
"""Bytes of a model's name in that of a folder, which may have 255."""


@dataclass(frozen=True, eq=False)
class Variant:
    """A sampler with its name; best-of-n may be matched in cost to the sampler called ``match``."""

    name: str
    sampler: Sampler
    match: str | None = None


def variants(
    samplers: Sequence[str],
    settings: Mapping[str, Sequence[Any]],
    defaults: Mapping[str, Any],
    match: str | None = None,
    spell: Callable[[str], str] = str,
) -> list[Variant]:
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
    found: dict[tuple[str, str], Variant] = {}
    for name in samplers:
        has = SAMPLERS[name].__dataclass_fields__
        given = {setting: values for setting, values in settings.items() if setting in has}
        own = {setting: value for setting, value in defaults.items() if setting in has}
        for values in itertools.product(*given.values()):
            sampler = build_sampler(name, {**own, **dict(zip(given, values, strict=True))}, spell)
            matched = match if name == BEST_OF_N else None
            found.setdefault((name, repr(sampler)), Variant(name, sampler, matched))
    return list(found.values())


@dataclass(frozen=True, eq=False)
class Cell:
    """Completions of one task by one model, drawn by one sampler with one variant of its settings.

    ``style`` is the name of the prompt style and ``seeds`` the number of completions of each problem. ``dtype`` is the
    model's and ``template_args`` are its chat template's, where the user chose them. ``matched`` is the cell whose cost
    on each problem and seed best-of-n may spend.
    """

    bench: Benchmark
    model: str
    sampler: str
    settings: Sampler
    style: str
    seeds: int
    dtype: str | None = None
    template_args: TemplateArgs | None = None
    matched: Cell | None = None

    @cached_property
    def _problems(self) -> list[Mapping[str, Problem]]:
        """The problems by id: of each seed, or once for all."""
        read = self.bench.reshuffle if STYLES[self.style].reshuffle and self.bench.task.kind == "choice" else None
        several = [self.bench.problems] if read is None else [read(seed) for seed in range(self.seeds)]
        return [{problem.id: problem for problem in problems} for problems in several]

    @property
    def facts(self) -> CellFacts:
        """What cell.json says."""
        return CellFacts(
            task=self.bench.name,
            model=self.model,
            sampler=self.sampler,
            settings=strict(asdict(self.settings)),
            problems=len(self.bench.problems),
            seeds=tuple(range(self.seeds)),
            data=self.bench.data,
            prompt_style=self.style,
            template_args=self.template_args,
            dtype=self.dtype,
            matched=None if self.matched is None else self.matched.name,
        )

    @cached_property
    def name(self) -> str:
        """The name of its folder: readable, and another for whatever else changes a completion or its grade.

        Seeds and problems are not in it: a cell may grow by more.
        """
        facts = self.facts
        own: dict[str, Any] = {
            "task": facts.task,
            "model": facts.model,
            "sampler": facts.sampler,
            "settings": facts.settings,
            "data": facts.data and {"sha256": facts.data["sha256"]},  # wherever the file lies
            "prompt_style": facts.prompt_style,
        }
        for name in ("dtype", "template_args", "matched"):
            if (value := getattr(facts, name)) is not None:
                own[name] = value
        digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]
        return f"{facts.task}--{folder_name(self.model)}--{facts.sampler}--{digest}"

    def problem(self, key: Key) -> Problem:
        """What a completion answers: its problem, with choices in the order of its seed where the style has it so."""
        problem, seed = key
        return self._problems[seed % len(self._problems)][problem]

    def completions(self) -> Iterator[Key]:
        """The completions it should have: every problem once, then every problem with the next seed."""
        for seed in range(self.seeds):
            for problem in self.bench.problems:
                yield problem.id, seed


def folder_name(model: str) -> str:
    """A model's name as a part of a folder's: its last part, of characters that any file system takes."""
    name = re.sub(r"[^\w.-]+", "-", model.rstrip("/").rsplit("/", 1)[-1]).strip("-") or "model"
    return name.encode()[:_LONGEST_MODEL].decode(errors="ignore")


def make_cells(
    chosen: Mapping[Benchmark, Sequence[Variant]],
    model: str,
    engine: Engine,
    *,
    style: str | None,
    seeds: int,
    dtype: str | None = None,
    template_args: TemplateArgs | None = None,
) -> list[Cell]:
    """The cells of one model, in order; a best-of-n that is matched to a sampler has one for each cell of that."""
    if engine.text is None:
        raise SettingError("this engine has no tokenizer: benchmarks need a model that reads text")
    style = choose_style(style, f"{model} {engine.name}", engine.text.has_chat_template)
    for bench in chosen:
        if template_args and bench.task.kind not in STYLES[style].chat:
            raise SettingError(f"template_args: style {style} puts {bench.name} into no chat template; leave them out")
    cells = []
    for bench, several in chosen.items():
        stop = STYLES[style].stop.get(bench.task.kind, ())
        made: list[Cell] = []
        for variant in several:
            if variant.match is None:
                sampler = replace(variant.sampler, stop=(*variant.sampler.stop, *stop))
                made.append(Cell(bench, model, variant.name, sampler, style, seeds, dtype, template_args))
        matched = [
            replace(cell, sampler=each.name, settings=replace(each.sampler, stop=cell.settings.stop), matched=cell)
            for each in several
            for cell in made
            if each.match == cell.sampler
        ]
        cells += [*made, *matched]
    return cells


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
    if "budget" in settings:
        raise SettingError(f"{spell('budget')} and {spell('match')} say the same thing twice: give one of them")
