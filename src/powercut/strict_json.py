"""Strict JSON: dataclasses and arrays as JSON, and dataclasses from it, each value checked by the type of its field.

Infinities are written as texts ("-inf"), NaN as null. A field that may be None may be missing, and one that is not
known is passed over.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from powercut.errors import one_line
from powercut.trace import read_only

T = TypeVar("T")

_PLAIN = {str, int, bool}

_DEEPEST = 50
"""Lists and objects inside each other."""


def json_line(value: Any) -> str:
    """A record as one line of strict JSON."""
    return json.dumps(strict(value), ensure_ascii=False, allow_nan=False) + "\n"


def json_file(value: Any) -> str:
    """A record as a whole file of strict JSON, laid out for people."""
    return json.dumps(strict(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def strict(value: Any) -> Any:
    """``value`` in types that JSON has: records as objects, arrays as lists, infinities as texts, NaN as None."""
    if value is None or type(value) in _PLAIN:  # as most are: the questions below take longer
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: strict(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return value


def from_json(kind: Callable[..., T], found: Any) -> T:
    """A dataclass from the fields of a JSON object; ValueError, in plain words, for what is none."""
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    values = {}
    for name, exact, optional, read, default in _readers(kind):
        value = found.get(name, MISSING)
        if type(value) is exact or (value is None and optional):  # most values are just this: no call
            values[name] = value
        elif value is not MISSING:
            values[name] = read(name, value)
        elif default is MISSING:
            raise ValueError(f"it has no {name}")
        else:
            values[name] = default
    return kind(**values)


Read = Callable[[str, Any], Any]
"""Takes a field's name and its value in JSON; gives the value, or raises ValueError."""


@cache
def _readers(kind: Any) -> list[tuple[str, type | None, bool, Read, Any]]:
    """Each field's name, the type whose every value will do, whether None will, what reads it, its default."""
    hints = get_type_hints(kind)
    found = []
    for field in fields(kind):
        hint = hints[field.name]
        members = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        optional = type(None) in members
        exact = members[0] if members[0] in (str, bool, float) else None
        default = None if field.default is MISSING and optional else field.default
        found.append((field.name, exact, optional, _reader(members), default))
    return found


def _reader(members: Sequence[Any]) -> Read:
    """What reads a value of one of some types; of None it need not know."""
    readers = {each: _reader_of(each) for each in members if each is not type(None)}
    first = next(iter(readers.values()))
    return first if len(readers) == 1 else lambda name, value: readers.get(type(value), first)(name, value)


def _reader_of(hint: Any) -> Read:
    origin, inner = get_origin(hint), get_args(hint)
    if (alias := getattr(origin, "__value__", None)) is not None:  # numpy's arrays from Python 3.12 on
        origin = get_origin(alias)
    if origin is tuple:
        return _items(_reader_of(inner[0]))
    if origin is np.ndarray:
        items = _items(_whole)
        return lambda name, value: read_only(items(name, value), np.int64)
    if isinstance(hint, type) and is_dataclass(hint):
        return lambda name, value: from_json(hint, value)
    return {str: _text, int: _whole, float: _number, bool: _truth}.get(hint, _object)


def _text(name: str, value: Any) -> str:
    if type(value) is not str:
        raise _wrong(name, "a text", value)
    return value


def _truth(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise _wrong(name, "true or false", value)
    return value


def _whole(name: str, value: Any) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise _wrong(name, "a whole number below 2^63", value)
    return value


def _number(name: str, value: Any) -> float:
    if type(value) is float:
        return value
    if value in ("inf", "-inf"):
        return float(value)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise _wrong(name, "a number below 2^63", value)
    return value


def _object(name: str, value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise _wrong(name, "an object", value)
    _check_inside(name, value)
    return value


def _check_inside(name: str, value: Any, depth: int = 0) -> None:
    """Raise ValueError for whole numbers that are no int64 or float, and for what is nested without end."""
    if type(value) is int:
        _whole(f"a number in {name}", value)
    elif isinstance(value, dict | list):
        if depth == _DEEPEST:
            raise ValueError(f"{name} is nested more than {_DEEPEST} deep")
        for item in value.values() if isinstance(value, dict) else value:
            _check_inside(name, item, depth + 1)


def _items(read: Callable[[str, Any], Any]) -> Callable[[str, Any], tuple[Any, ...]]:
    def items(name: str, value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _wrong(name, "a list", value)
        return tuple(read(f"each of {name}", item) for item in value)

    return items


def _wrong(name: str, wanted: str, value: Any) -> ValueError:
    return ValueError(f"{name} must be {wanted} (it is {one_line(json.dumps(value), 40)})")
