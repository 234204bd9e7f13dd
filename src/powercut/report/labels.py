"""What cells are called among others, and in which order they stand: in a report, and while they are run."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from powercut.records import CellFacts
from powercut.samplers import SAMPLERS


class Named(Protocol):
    """A cell: one that is run, or one with its results."""

    @property
    def name(self) -> str:
        """The name of the cell's folder."""

    @property
    def facts(self) -> CellFacts:
        """What cell.json says."""


C = TypeVar("C", bound=Named)

_SYMBOLS = {"alpha": "α", "beta": "β"}


def show_value(value: Any) -> str:
    """A setting's value as the command line takes it."""
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def symbol(setting: str) -> str:
    """A setting's name as a paper writes it."""
    return _SYMBOLS.get(setting, setting.replace("_", " "))


def comparable(value: Any) -> str:
    """Any JSON value as something that can be compared."""
    return json.dumps(value, sort_keys=True)


def sortable(value: Any) -> tuple[int, float, str]:
    """Any setting's value as something that can be sorted: numbers first, infinity after them."""
    if isinstance(value, int | float) or value in ("inf", "Infinity"):
        return (0, float(value), "")
    return (1, 0.0, show_value(value))


def traits(facts: CellFacts) -> dict[str, Any]:
    """What sets a cell apart from others of its task, model and sampler: its settings and what else it was run with."""
    data = None if facts.data is None else str(facts.data.get("sha256"))[:8]  # wherever the file lies
    others = {
        "prompt_style": facts.prompt_style,
        "template_args": facts.template_args,
        "data": data,
        "dtype": facts.dtype,
        "matched": facts.matched,
    }
    return {**facts.settings, **{name: value for name, value in others.items() if value is not None}}


def groups(cells: Iterable[C]) -> Iterator[list[C]]:
    """Cells of the same task, model and sampler."""
    found: dict[tuple[str, str, str], list[C]] = defaultdict(list)
    for cell in cells:
        found[cell.facts.task, cell.facts.model, cell.facts.sampler].append(cell)
    yield from found.values()


def varying(cells: Iterable[Named]) -> dict[tuple[str, str], list[str]]:
    """For each task and sampler, the traits that vary within a model."""
    found: dict[tuple[str, str], list[str]] = {}
    for group in groups(cells):
        all_traits = [traits(cell.facts) for cell in group]
        names = found.setdefault((group[0].facts.task, group[0].facts.sampler), [])
        for name in dict.fromkeys(name for each in all_traits for name in each):
            if name not in names and len({comparable(each.get(name)) for each in all_traits}) > 1:
                names.append(name)
    return found


def label(facts: CellFacts, names: Iterable[str]) -> str:
    """The sampler, with its values of the traits ``names``."""
    values = traits(facts)
    shown = ", ".join(f"{symbol(name)}={show_value(values[name])}" for name in names if name in values)
    return f"{facts.sampler} ({shown})" if shown else facts.sampler


def in_order(cells: Sequence[C]) -> list[C]:
    """By task and model as they come, then by sampler as powercut lists them, then by the traits that vary."""
    tasks, models = (list(dict.fromkeys(getattr(cell.facts, name) for cell in cells)) for name in ("task", "model"))
    samplers = {name: place for place, name in enumerate(SAMPLERS)}
    names = varying(cells)
    by_name = {cell.name: label(cell.facts, names[cell.facts.task, cell.facts.sampler]) for cell in cells}

    def place(cell: C) -> tuple[Any, ...]:
        facts, own = cell.facts, traits(cell.facts)
        values = [own.get(name) for name in names[facts.task, facts.sampler]]
        values = [sortable(by_name.get(value, value) if isinstance(value, str) else value) for value in values]
        sampler = (samplers.get(facts.sampler, len(samplers)), facts.sampler)
        return (tasks.index(facts.task), models.index(facts.model), *sampler, *values, cell.name)

    return sorted(cells, key=place)


def labels(cells: Sequence[Named]) -> list[str]:
    """A label for each cell, unlike any other of its task and model."""
    names = varying(cells)
    plain = [label(cell.facts, names[cell.facts.task, cell.facts.sampler]) for cell in cells]
    by_name = {cell.name: text for cell, text in zip(cells, plain, strict=True)}
    plain = [_name_matched(cell.facts, text, by_name) for cell, text in zip(cells, plain, strict=True)]
    keys = [(cell.facts.task, cell.facts.model, text) for cell, text in zip(cells, plain, strict=True)]
    count = Counter(keys)
    return [
        text if count[key] == 1 else f"{text} #{cell.name.rsplit('--', 1)[-1]}"
        for cell, key, text in zip(cells, keys, plain, strict=True)
    ]


def _name_matched(facts: CellFacts, text: str, labels: dict[str, str]) -> str:
    """``text`` with the label of the cell that best-of-n was matched to in place of that cell's name."""
    if facts.matched is None:
        return text
    return text.replace(facts.matched, labels.get(facts.matched, facts.matched).replace(" (", " ").replace(")", ""))


def short(models: Iterable[str]) -> dict[str, str]:
    """The last part of each model's path or hub name, where that tells them apart."""
    last = {model: model.rstrip("/").rsplit("/", 1)[-1] for model in models}
    return last if len(set(last.values())) == len(last) else {model: model for model in last}
