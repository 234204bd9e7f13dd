"""A sampler from its name and from settings as people write them: command-line flags, ``key=value`` arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_type_hints

from powercut.errors import SettingError, did_you_mean
from powercut.samplers import SAMPLERS, Sampler
from powercut.samplers.settings import read_setting


def build_sampler(name: str, settings: Mapping[str, Any], spell: Callable[[str], str] = str) -> Sampler:
    """Build the sampler called ``name``; its own defaults hold for the settings that are not given.

    Values are what they are, or texts (``read_setting``). ``spell`` turns a setting's name into what the user knows it
    by, for messages.

    Raises SettingError for an unknown name, a setting that this sampler does not have, or a value it cannot use.
    """
    if name not in SAMPLERS:
        hint = did_you_mean(name, SAMPLERS)
        raise SettingError(f"there is no sampler {name!r}{hint}: the samplers are {', '.join(SAMPLERS)}")
    kind = SAMPLERS[name]
    hints = _types_of_settings(kind)
    for setting in settings:
        if setting not in hints:
            owners = owners_of(setting)
            what = (
                f"is a setting of {', '.join(owners)}, not of {name}" if owners else "is not a setting of any sampler"
            )
            raise SettingError(f"{spell(setting)} {what}")
    return kind(**{setting: read_setting(spell(setting), value, hints[setting]) for setting, value in settings.items()})


@cache
def _types_of_settings(kind: type[Sampler]) -> Mapping[str, Any]:
    return get_type_hints(kind)  # which reads them anew each time


def owners_of(setting: str) -> list[str]:
    """The samplers that have ``setting``."""
    return [name for name, kind in SAMPLERS.items() if setting in kind.__dataclass_fields__]


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that are settings of samplers, and the others."""
    settings = {name: value for name, value in options.items() if owners_of(name)}
    return settings, {name: value for name, value in options.items() if name not in settings}
