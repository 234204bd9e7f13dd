"""powercut samples reasoning from the power distribution p(x)^alpha of any language model."""

from importlib.metadata import version

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

__version__ = version("powercut")

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
    "load",
    "sample",
]
