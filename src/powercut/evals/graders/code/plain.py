"""Plain data as text, between the judge and the program it judges. Imports nothing of ours.

What comes back is made of Python's own types alone, whatever was sent: an object that equals everything, or an int that
does, arrives as its value or not at all.
"""

from __future__ import annotations

import collections
import decimal
import fractions
import json
import numbers
import operator
from collections.abc import Callable, Iterator
from typing import Any


class NotPlain(TypeError):  # noqa: N818
    """What is no plain data."""


Keep = Callable[[Iterator[Any]], int]
"""Keeps an iterator, whose items are asked for one by one, and gives it a number."""


def encode(value: Any, keep: Keep | None = None) -> str:
    """Numbers, texts, bytes, lists, tuples, sets, dicts and what derives from them; iterators if they can be kept.

    Raises NotPlain for anything else, and for data without end.
    """
    try:
        return json.dumps(_simple(value, keep))
    except (RecursionError, ValueError):
        raise NotPlain("data that holds itself") from None


def _simple(value: Any, keep: Keep | None) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if kind.__module__ == "numpy" and not getattr(value, "shape", True):
        return _simple(value.item(), keep)
    for types, name, parts in _KINDS:
        if isinstance(value, types):
            return name and [name, parts(value, keep)]
    if keep is not None and hasattr(kind, "__next__"):
        return ["iterator", keep(value)]
    raise NotPlain(f"{kind.__name__!r} is no plain data")


def _each(value: Any, keep: Keep | None) -> list[Any]:
    return [_simple(item, keep) for item in value]


def _pairs(value: Any, keep: Keep | None) -> list[Any]:
    return [[_simple(key, keep), _simple(item, keep)] for key, item in dict.items(value)]


_KINDS: list[tuple[Any, str, Callable[[Any, Keep | None], Any]]] = [
    (str, "str", lambda value, keep: str.__str__(value)),
    (numbers.Integral, "int", lambda value, keep: hex(operator.index(value))),
    (numbers.Rational, "fraction", lambda value, keep: [hex(value.numerator), hex(value.denominator)]),
    (numbers.Real, "float", lambda value, keep: float(value)),
    (decimal.Decimal, "decimal", lambda value, keep: decimal.Decimal.__str__(value)),
    (numbers.Complex, "complex", lambda value, keep: [complex(value).real, complex(value).imag]),
    (bytes, "bytes", lambda value, keep: bytes.hex(value)),
    (bytearray, "bytearray", lambda value, keep: bytearray.hex(value)),
    (list, "list", _each),
    (tuple, "tuple", _each),
    (set, "set", _each),
    (frozenset, "frozenset", _each),
    (collections.deque, "deque", _each),
    (dict, "dict", _pairs),
    (type({}.keys()), "keys", _each),
    (type({}.values()), "values", _each),
    (type({}.items()), "items", lambda value, keep: _pairs(dict(value), keep)),
    (range, "range", lambda value, keep: [hex(value.start), hex(value.stop), hex(value.step)]),
]


def decode(text: str, iterate: Callable[[int], Any] | None = None) -> Any:
    """What was encoded; ``iterate`` makes an iterator of the number of one that is kept.

    Raises NotPlain for a text that ``encode`` does not give.
    """
    try:
        return _value(json.loads(text), iterate)
    except (ArithmeticError, AttributeError, KeyError, LookupError, RecursionError, TypeError, ValueError):
        raise NotPlain("what it sent is no plain data") from None


def _value(simple: Any, iterate: Callable[[int], Any] | None) -> Any:
    if simple is None or isinstance(simple, (bool, float)):
        return simple
    name, parts = simple
    if name == "iterator" and iterate is not None and type(parts) is int:
        return iterate(parts)
    if name in _COLLECTIONS:
        return _COLLECTIONS[name]([_value(part, iterate) for part in parts])
    if name in _MAPPINGS:
        return _MAPPINGS[name]({_value(key, iterate): _value(item, iterate) for key, item in parts})
    return _SCALARS[name](parts)


def _int(text: str) -> int:
    return int(text, 16)


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "str": lambda parts: str.__str__(parts),
    "int": _int,
    "fraction": lambda parts: fractions.Fraction(*map(_int, parts)),
    "float": float,
    "decimal": decimal.Decimal,
    "complex": lambda parts: complex(*parts),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "range": lambda parts: range(*map(_int, parts)),
}
_COLLECTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
    "keys": lambda parts: dict.fromkeys(parts).keys(),
    "values": lambda parts: dict(enumerate(parts)).values(),
}
_MAPPINGS: dict[str, Callable[[dict[Any, Any]], Any]] = {"dict": dict, "items": lambda parts: parts.items()}
