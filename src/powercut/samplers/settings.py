"""Settings of samplers: declared as dataclass fields, checked, and read from what people write."""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import field
from typing import Any, Literal, get_args

import numpy as np

from powercut.errors import SettingError, quoted
from powercut.prompt import check_whole

LARGEST_COUNT = 1_000_000
"""Of whatever is counted, unless a setting says otherwise: beyond it a slip of the keyboard fills the memory."""

LARGEST_SEED = 2**63 - 1
"""Of a command: what it writes to disk is read as such a number."""

_SPELT = {int: "a whole number", float: "a number", str: "a text"}


class StopText(str):
    """A stop that is a text, also where it reads like a token id ("id:7")."""


def setting(
    default: Any,
    text: str,
    *,
    at_least: float | None = None,
    at_most: float = math.inf,
    whole: bool = False,
    optional: bool = False,
) -> Any:
    """A sampler's field: its default, its help text, the numbers that make sense, and whether None does."""
    limits = {"at_least": at_least, "at_most": at_most, "whole": whole, "optional": optional}
    return field(default=default, metadata={"help": text, **limits})


def check_settings(sampler: Any) -> None:
    """Raise SettingError, naming the setting, unless each field of a dataclass is what its declaration allows."""
    for name, info in sampler.__dataclass_fields__.items():
        value, rule = getattr(sampler, name), info.metadata
        if isinstance(info.default, bool) and not isinstance(value, bool | np.bool_):
            raise SettingError(f"{name} must be True or False (got {quoted(value)})")
        if rule.get("at_least") is not None and not (value is None and rule["optional"]):
            check_number(name, value, least=rule["at_least"], most=rule["at_most"], whole=rule["whole"])


def check_number(
    name: str,
    value: Any,
    least: float,
    most: float = math.inf,
    *,
    whole: bool = False,
    counts: bool = True,
    otherwise: str = "",
) -> None:
    """Raise SettingError, naming the setting, unless ``value`` is a (whole) number from ``least`` to ``most``.

    A whole number without a ``most`` that ``counts`` something is at most LARGEST_COUNT.
    """
    kinds = (int, np.integer) if whole else (int, float, np.number)
    kind = "a whole number" if whole else "a number"
    if isinstance(value, bool | np.complexfloating) or not isinstance(value, kinds) or not least <= value <= most:
        limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
        raise SettingError(f"{name} must be {kind} {limits}{otherwise} (got {quoted(value)})")
    if not whole and isinstance(value, int) and value >= 2**63:  # numpy computes with none that is larger
        raise SettingError(f"{name} must be {kind} below 2^63{otherwise} (got {quoted(value)})")
    if whole and counts and most == math.inf and value > LARGEST_COUNT:
        raise SettingError(f"{name} must be {kind} of at most {LARGEST_COUNT:,}{otherwise} (got {quoted(value)})")


def check_word(name: str, value: Any, hint: Any) -> None:
    """Raise SettingError, naming the setting, unless ``value`` is one of the words of type ``hint``."""
    if not isinstance(value, str) or value not in words(hint):
        raise SettingError(f"{name} must be {' or '.join(words(hint))} (got {quoted(value)})")


def check_temperature(alpha: float, temperature: float | None) -> None:
    """Raise SettingError unless ``temperature``, or 1/alpha in its place, can be sampled at."""
    if temperature is None:
        if alpha == math.inf:
            raise SettingError("alpha = inf needs a temperature to propose at: give one, such as temperature 0.25")
    else:
        otherwise = ", or None for 1/alpha"
        check_number("temperature", temperature, 0, otherwise=otherwise)
        if not 0 < temperature < math.inf:
            raise SettingError(f"temperature must be a positive number{otherwise} (got {quoted(temperature)})")


def check_stop(stop: Any) -> tuple[str | int, ...]:
    """The stops as a tuple of texts and token ids; SettingError for anything else."""
    if isinstance(stop, np.ndarray):
        stop = stop.tolist()
    if isinstance(stop, str | bytes | int | np.integer) or not isinstance(stop, Iterable):
        stop = (stop,)
    kept: list[str | int] = []
    for item in stop:
        if not isinstance(item, str | int | np.integer) or isinstance(item, bool):
            raise SettingError(f"stop must be texts and token ids (got {quoted(item)})")
        if not isinstance(item, str) and not 0 <= item < 2**63:
            raise SettingError(f"stop must be texts and token ids of at least 0 and below 2^63 (got {quoted(item)})")
        if item == "":
            raise SettingError("stop: a stop string cannot be empty; leave it out")
        if isinstance(item, str):
            check_whole(item, "a stop string")
        kept.append(str(item) if isinstance(item, str) else int(item))
    return tuple(kept)


def check_pattern(name: str, value: Any) -> None:
    """Raise SettingError, naming the setting, unless ``value`` is a regular expression, a function or None."""
    if isinstance(value, str):
        try:
            re.compile(value)
        except re.error as error:
            raise SettingError(f"{name} must be a regular expression: {error} (got {quoted(value)})") from error
    elif value is not None and not callable(value):
        raise SettingError(f"{name} must be a regular expression or a function (got {quoted(value)})")


def members(hint: Any) -> tuple[Any, ...]:
    """The types that make up a type."""
    return get_args(hint) if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union else (hint,)


def words(hint: Any) -> tuple[str, ...]:
    """The words that a type admits."""
    return tuple(word for member in members(hint) if typing.get_origin(member) is Literal for word in get_args(member))


def optional(hint: Any) -> bool:
    """Whether a type admits None."""
    return type(None) in members(hint)


def kind_of(hint: Any) -> type[int] | type[float] | type[str] | None:
    """What a type reads a text as that is none of its words; None where it has words only."""
    return next((kind for kind in (int, float, str) if kind in members(hint)), None)


def read_setting(name: str, value: Any, hint: Any) -> Any:
    """``value`` as a setting of type ``hint``: what it is, or a text such as "4", "none", "false", "id:7" (a stop).

    Raises SettingError, with ``name``, for a text that cannot be read so.
    """
    if typing.get_origin(hint) is tuple:
        return tuple(_read_stop(name, item) for item in ([value] if isinstance(value, str | int) else value))
    if hint is bool:
        switches = {"true": True, "on": True, "false": False, "off": False}
        return switches.get(value.lower(), value) if isinstance(value, str) else value
    if value is None or value in words(hint):
        return value
    kind = kind_of(hint)
    if optional(hint) and str(value).lower() in (("none",) if kind is str else ("none", "all")):
        return None
    with suppress(ValueError):
        if kind is not None:
            return value if callable(value) else kind(str(value))
    either = " or ".join([*([_SPELT[kind]] if kind else []), *words(hint), *(["none"] if optional(hint) else [])])
    raise SettingError(f"{name} must be {either} (got {quoted(value)})")


def _read_stop(name: str, stop: str | int) -> str | int:
    if not isinstance(stop, str) or isinstance(stop, StopText) or not stop.startswith("id:"):
        return stop
    try:
        return int(stop[3:])
    except ValueError:
        raise SettingError(f"{name} id:N must name a token id (got {quoted(stop)})") from None
