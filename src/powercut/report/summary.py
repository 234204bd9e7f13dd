"""What a report says, as numbers: one entry a cell, tests between cells, matched costs, ablations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powercut.records import CellFacts
from powercut.report.labels import comparable, groups, in_order, label, labels, short, sortable, traits, varying
from powercut.report.read import CellResults
from powercut.report.stats import Comparison, Interval, compare, holm, pass_at_k, proportion, spread
from powercut.samplers import BEST_OF_N

BASELINES = ("standard", "low-temperature")


@dataclass(frozen=True, eq=False)
class Entry:
    """One cell and its figures. Means weigh every problem equally; NaN where there is nothing to average."""

    cell: CellResults
    model: str
    label: str

    @property
    def facts(self) -> CellFacts:
        """What cell.json says."""
        return self.cell.facts

    @cached_property
    def accuracy(self) -> Interval:
        """Share of right completions."""
        return proportion(self.cell.by_problem(self.cell.correct), self.completions)

    @cached_property
    def spread(self) -> float:
        """Standard deviation of the share over seeds; NaN with one seed."""
        return spread(self.cell.correct, self.cell.seed)

    @cached_property
    def pass_at(self) -> list[Interval]:
        """pass@1, pass@2, ... up to the number of completions that every problem has."""
        draws = np.bincount(self.cell.problem)
        right = np.bincount(self.cell.problem, self.cell.correct)
        return [proportion(pass_at_k(right, draws, k), self.completions) for k in range(1, draws.min() + 1)]

    @cached_property
    def means(self) -> dict[str, float]:
        """Mean of each of MEASURES."""
        return {name: _mean(self.cell.by_problem(column)) for name, column in self.cell.measures.items()}

    @property
    def problems(self) -> int:
        """Problems with a completion."""
        return len(self.cell.ids)

    @property
    def completions(self) -> int:
        """Completions, those that failed included."""
        return len(self.cell.problem)

    @property
    def errors(self) -> int:
        """Completions that failed; they count as wrong."""
        return int(self.cell.failed.sum())


@dataclass(frozen=True, eq=False)
class Test:
    """An entry against a baseline; ``adjusted`` is the p-value after Holm's correction for all tests of the task."""

    entry: Entry
    baseline: Entry
    result: Comparison
    adjusted: float = float("nan")


@dataclass(frozen=True, eq=False)
class Match:
    """Best-of-n, and the sampler whose cost it was given, which ``result`` compares with it.

    ``ratio`` is of their decoded tokens, best-of-n's over the other's, on the problems that both have.
    """

    entry: Entry
    matched: Entry
    ratio: float
    result: Comparison


@dataclass(frozen=True, eq=False)
class Ablation:
    """Entries of one task, model and sampler that differ in one setting only, in its order.

    ``fixed`` names the values of other settings that vary elsewhere in the report.
    """

    setting: str
    fixed: str
    values: list[Any]
    entries: list[Entry]


@dataclass(frozen=True, eq=False)
class Summary:
    """All of it; entries by task, in the order of the samplers."""

    tasks: dict[str, list[Entry]]
    models: list[str]
    tests: list[Test]
    matches: list[Match]
    ablations: list[Ablation]


def summarise(cells: Sequence[CellResults]) -> Summary:
    """Work out what the report says of the cells."""
    cells = in_order(cells)
    models = short(cell.facts.model for cell in cells)
    entries = [Entry(cell, models[cell.facts.model], text) for cell, text in zip(cells, labels(cells), strict=True)]
    tasks: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        tasks[entry.facts.task].append(entry)
    return Summary(
        tasks=dict(tasks),
        models=list(dict.fromkeys(entry.model for entry in entries)),
        tests=[test for group in tasks.values() for test in _tests(group)],
        matches=[match for group in tasks.values() for match in _matches(group)],
        ablations=[ablation for group in tasks.values() for ablation in _ablations(group)],
    )


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _common(a: Entry, b: Entry) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where in each entry's problems those stand that both have."""
    place = {key: i for i, key in enumerate(b.cell.ids)}
    pairs = [(i, place[key]) for i, key in enumerate(a.cell.ids) if key in place]
    ours, theirs = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return ours, theirs


def _compare(a: Entry, b: Entry) -> Comparison | None:
    ours, theirs = _common(a, b)
    if not len(ours):
        return None
    return compare(a.cell.by_problem(a.cell.correct)[ours], b.cell.by_problem(b.cell.correct)[theirs])


def _tests(entries: Sequence[Entry]) -> list[Test]:
    tests = list(_pairs(entries))
    adjusted = holm([test.result.p for test in tests])
    return [replace(test, adjusted=float(p)) for test, p in zip(tests, adjusted, strict=True)]


def _pairs(entries: Sequence[Entry]) -> Iterator[Test]:
    models = list(dict.fromkeys(entry.model for entry in entries))
    for entry in entries:
        for sampler, model in _baselines(entry, models):
            candidates = [other for other in entries if (other.facts.sampler, other.model) == (sampler, model)]
            if candidates:
                baseline = max(candidates, key=lambda other: _alike(entry, other))
                if (result := _compare(entry, baseline)) is not None:
                    yield Test(entry, baseline, result)


def _baselines(entry: Entry, models: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The baselines of its own model, and standard sampling from the others; no pair twice."""
    standard, low = BASELINES
    if entry.facts.sampler != standard:
        yield standard, entry.model
    if entry.facts.sampler not in BASELINES:
        yield low, entry.model
    for model in models:
        before = models.index(model) < models.index(entry.model)
        if model != entry.model and (before or entry.facts.sampler != standard):
            yield standard, model


def _alike(a: Entry, b: Entry) -> int:
    """How many settings two entries share."""
    return sum(comparable(value) == comparable(b.facts.settings.get(name)) for name, value in a.facts.settings.items())


def _matches(entries: Sequence[Entry]) -> Iterator[Match]:
    """Best-of-n beside the sampler it was matched to, or else the one whose cost is nearest."""
    for entry in entries:
        if entry.facts.sampler != BEST_OF_N:
            continue
        others = [
            other
            for other in entries
            if other.model == entry.model and other.facts.sampler not in (*BASELINES, BEST_OF_N)
        ]
        if named := entry.facts.matched:
            others = [other for other in others if other.cell.name == named]
        pairs = [(other, _ratio(entry, other)) for other in others]
        pairs = [(other, ratio) for other, ratio in pairs if ratio > 0]
        if not pairs:
            continue
        matched, ratio = min(pairs, key=lambda pair: abs(float(np.log(pair[1]))))
        if (result := _compare(matched, entry)) is not None:
            yield Match(entry, matched, ratio, result)


def _ratio(a: Entry, b: Entry) -> float:
    ours, theirs = _common(a, b)
    costs = [e.cell.by_problem(e.cell.measures["tokens_decoded"])[at] for e, at in ((a, ours), (b, theirs))]
    known = ~np.isnan(costs[0]) & ~np.isnan(costs[1])
    total = costs[1][known].sum()
    return float(costs[0][known].sum() / total) if total else float("nan")


def _ablations(entries: Sequence[Entry]) -> Iterator[Ablation]:
    by_cell = {id(entry.cell): entry for entry in entries}
    for group in groups([entry.cell for entry in entries]):
        names = varying(group)[group[0].facts.task, group[0].facts.sampler]
        for name in (name for name in names if name in group[0].facts.settings):
            rest: dict[str, list[CellResults]] = defaultdict(list)
            for cell in group:
                others = {other: value for other, value in traits(cell.facts).items() if other != name}
                rest[comparable(others)].append(cell)
            for cells in rest.values():
                if len(cells) > 1:
                    ordered = sorted(cells, key=lambda cell: sortable(cell.facts.settings.get(name)))
                    fixed = label(ordered[0].facts, [other for other in names if other != name])
                    values = [cell.facts.settings.get(name) for cell in ordered]
                    yield Ablation(name, fixed, values, [by_cell[id(cell)] for cell in ordered])
