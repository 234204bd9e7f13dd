"""What the cells of a report are called, and in which order they stand."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from powercut.report.read import Cell
from powercut.samplers import SAMPLERS

_SYMBOLS = {"alpha": "α", "beta": "β"}

_BESIDES = ("prompt_style", "data", "dtype", "matched")
"""What sets cells apart besides their settings."""


def spell(value: Any) -> str:
    """A setting's value as the command line spells it."""
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


def key(value: Any) -> str:
    """Any JSON value as something that can be compared."""
    return json.dumps(value, sort_keys=True)


def sortable(value: Any) -> tuple[int, float, str]:
    """Any setting's value as something that can be sorted: numbers first, infinity after them."""
    if isinstance(value, int | float) or value in ("inf", "Infinity"):
        return (0, float(value), "")
    return (1, 0.0, spell(value))


def identity(cell: Cell) -> dict[str, Any]:
    """What sets a cell apart from others of its task, model and sampler."""
    about = {name: cell.about[name] for name in _BESIDES if cell.about.get(name) is not None}
    if isinstance(about.get("data"), dict):  # wherever the file lies
        about["data"] = str(about["data"].get("sha256"))[:8]
    return {**cell.settings, **about}


def groups(cells: Iterable[Cell]) -> Iterator[list[Cell]]:
    """Cells of the same task, model and sampler."""
    found: dict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        found[cell.task, cell.model, cell.sampler].append(cell)
    yield from found.values()


def varying(cells: Iterable[Cell]) -> dict[tuple[str, str], list[str]]:
    """For each task and sampler, the settings that vary within a model."""
    found: dict[tuple[str, str], list[str]] = {}
    for group in groups(cells):
        names = found.setdefault((group[0].task, group[0].sampler), [])
        for name in dict.fromkeys(name for cell in group for name in identity(cell)):
            if name not in names and len({key(identity(cell).get(name)) for cell in group}) > 1:
                names.append(name)
    return found


def label(cell: Cell, names: Iterable[str]) -> str:
    """The sampler, with its values of the settings ``names``."""
    values = identity(cell)
    shown = ", ".join(f"{symbol(name)}={spell(values[name])}" for name in names if name in values)
    return f"{cell.sampler} ({shown})" if shown else cell.sampler


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """By task and model as they come, then by sampler as powercut lists them, then by the settings that vary."""
    tasks, models = (list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in ("task", "model"))
    samplers = {name: place for place, name in enumerate(SAMPLERS)}
    names = varying(cells)
    by_name = {cell.name: label(cell, names[cell.task, cell.sampler]) for cell in cells}

    def place(cell: Cell) -> tuple[Any, ...]:
        values = [identity(cell).get(name) for name in names[cell.task, cell.sampler]]
        values = [sortable(by_name.get(value, value) if isinstance(value, str) else value) for value in values]
        sampler = (samplers.get(cell.sampler, len(samplers)), cell.sampler)
        return (tasks.index(cell.task), models.index(cell.model), *sampler, *values, cell.name)

    return sorted(cells, key=place)


def labels(cells: Sequence[Cell]) -> list[str]:
    """A label for each cell, unlike any other of its task and model."""
    names = varying(cells)
    plain = [label(cell, names[cell.task, cell.sampler]) for cell in cells]
    by_name = {cell.name: text for cell, text in zip(cells, plain, strict=True)}
    plain = [_name_matched(cell, text, by_name) for cell, text in zip(cells, plain, strict=True)]
    count = Counter((cell.task, cell.model, text) for cell, text in zip(cells, plain, strict=True))
    return [
        text if count[cell.task, cell.model, text] == 1 else f"{text} #{cell.name.rsplit('--', 1)[-1]}"
        for cell, text in zip(cells, plain, strict=True)
    ]


def _name_matched(cell: Cell, text: str, labels: dict[str, str]) -> str:
    """Best-of-n may be given the cost of another cell, which is told by its name: call it what the report does."""
    named = str(cell.about.get("matched"))
    return text.replace(named, labels.get(named, named).replace(" (", " ").replace(")", ""))


def short(models: Iterable[str]) -> dict[str, str]:
    """The last part of each model's path or hub name, where that tells them apart."""
    last = {model: model.rstrip("/").rsplit("/", 1)[-1] for model in models}
    return last if len(set(last.values())) == len(last) else {model: model for model in last}
