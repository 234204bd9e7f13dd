"""powercut samples reasoning from the power distribution p(x)^alpha of any language model."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # that of typing, which takes as long to import as all of this
if TYPE_CHECKING:
    from typing import Any

    from powercut import diagnostics
    from powercut.engines import load
    from powercut.engines.protocol import Engine, Request
    from powercut.engines.table import TableEngine
    from powercut.errors import BudgetError, EngineError, PowercutError, SettingError
    from powercut.run import Failure, asample, astream, sample
    from powercut.samplers import (
        SMC,
        TMC,
        BestOfN,
        EntropyCut,
        LowTemperature,
        PowerSMC,
        Rejection,
        Sampler,
        Standard,
        UniformCut,
    )
    from powercut.trace import Completion, Event, Stats, Step, Trace

    __version__: str

__all__ = [
    "SMC",
    "TMC",
    "BestOfN",
    "BudgetError",
    "Completion",
    "Engine",
    "EngineError",
    "EntropyCut",
    "Event",
    "Failure",
    "LowTemperature",
    "PowerSMC",
    "PowercutError",
    "Rejection",
    "Request",
    "Sampler",
    "SettingError",
    "Standard",
    "Stats",
    "Step",
    "TableEngine",
    "Trace",
    "UniformCut",
    "asample",
    "astream",
    "diagnostics",
    "load",
    "sample",
]

_HOMES = {
    "powercut.engines.protocol": ("Engine", "Request"),
    "powercut.engines.table": ("TableEngine",),
    "powercut.engines": ("load",),
    "powercut.errors": ("BudgetError", "EngineError", "PowercutError", "SettingError"),
    "powercut.run": ("Failure", "asample", "astream", "sample"),
    "powercut.trace": ("Completion", "Event", "Stats", "Step", "Trace"),
}
"""Which module each public name is from; those of none of these are samplers."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the command answers Ctrl-C before what it needs is imported."""
    if name == "__version__":
        value = importlib.import_module("importlib.metadata").version("powercut")
    elif name == "diagnostics":
        value = importlib.import_module("powercut.diagnostics")
    elif name in __all__:
        home = next((module for module, names in _HOMES.items() if name in names), "powercut.samplers")
        value = getattr(importlib.import_module(home), name)
    else:
        raise AttributeError(f"module 'powercut' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
