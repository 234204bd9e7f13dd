"""A sampler from its name and from settings as people write them: command-line flags, ``key=value`` arguments."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from powercut.errors import SettingError, did_you_mean
from powercut.samplers import SAMPLERS, Sampler
from powercut.samplers.best_of_n import Matched, Spent

_SPELT = {int: "a whole number", float: "a number", str: "a text"}


def build_sampler(name: str, settings: Mapping[str, Any], spell: Callable[[str], str] = str) -> Sampler:
    """Build the sampler called ``name``; its own defaults hold for the settings that are not given.

    Values are what they are, or texts: ``"4"``, ``"none"``, ``"false"``, and ``"id:7"`` for a token id among the stops.
    ``spell`` turns a setting's name into what the user knows it by, for messages.

    Raises SettingError for an unknown name, a setting that this sampler does not have, or a value it cannot use.
    """
    if name not in SAMPLERS:
        hint = did_you_mean(name, SAMPLERS)
        raise SettingError(f"there is no sampler {name!r}{hint}: the samplers are {', '.join(SAMPLERS)}")
    kind = SAMPLERS[name]
    hints = get_type_hints(kind)
    for setting in settings:
        if setting not in hints:
            owners = owners_of(setting)
            what = (
                f"is a setting of {', '.join(owners)}, not of {name}" if owners else "is not a setting of any sampler"
            )
            raise SettingError(f"{spell(setting)} {what}")
    return kind(**{setting: _read(spell(setting), value, hints[setting]) for setting, value in settings.items()})


def owners_of(setting: str) -> list[str]:
    """The samplers that have ``setting``."""
    return [name for name, kind in SAMPLERS.items() if setting in kind.__dataclass_fields__]


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that are settings of samplers, and the others."""
    settings = {name: value for name, value in options.items() if owners_of(name)}
    return settings, {name: value for name, value in options.items() if name not in settings}


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


def _read(name: str, value: Any, hint: Any) -> Any:
    """Read ``value`` as the setting's type."""
    if hint == Matched:
        return read_match(name, Path(value)) if isinstance(value, str) else value
    if typing.get_origin(hint) is tuple:
        return tuple(_read_stop(name, item) for item in ([value] if isinstance(value, str | int) else value))
    if hint is bool:
        switches = {"true": True, "on": True, "false": False, "off": False}
        return switches.get(value.lower(), value) if isinstance(value, str) else value
    if value is None or value in words(hint):
        return value
    if optional(hint) and str(value).lower() in ("none", "all"):
        return None
    kind = kind_of(hint)
    with suppress(ValueError):
        if kind is not None:
            return value if callable(value) else kind(str(value))
    either = " or ".join([*([_SPELT[kind]] if kind else []), *words(hint), *(["none"] if optional(hint) else [])])
    raise SettingError(f"{name} must be {either} (got {value!r})")


def _read_stop(name: str, stop: str | int) -> str | int:
    if not isinstance(stop, str) or not stop.startswith("id:"):
        return stop
    try:
        return int(stop[3:])
    except ValueError:
        raise SettingError(f"{name} id:N must name a token id (got {stop!r})") from None


def read_match(name: str, file: Path) -> Matched:
    """Read what each completion took from the JSON lines that ``powercut sample --json`` writes.

    Raises SettingError, naming file and line, for what is no such file.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{name}: cannot read {file}: {getattr(error, 'strerror', None) or error}") from None
    spent: list[Spent] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                fields = json.loads(line)
                spent.append((fields["prompt_index"], fields["sample_index"], fields["stats"]["tokens_decoded"]))
            except (ValueError, TypeError, KeyError):
                raise SettingError(f"{name}: {file}:{number} is no completion that --json wrote") from None
    if not spent:
        raise SettingError(f"{name}: {file} has no completions")
    return tuple(spent)
