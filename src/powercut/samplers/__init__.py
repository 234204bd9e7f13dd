"""Samplers: frozen settings that, called with an engine and a prompt, draw one completion. One file per algorithm."""

from powercut.samplers.best_of_n import BestOfN
from powercut.samplers.cut import EntropyCut, UniformCut
from powercut.samplers.draw import Observer
from powercut.samplers.plain import LowTemperature, Standard
from powercut.samplers.rejection import Rejection
from powercut.samplers.sampler import Sampler
from powercut.samplers.smc import SMC, PowerSMC
from powercut.samplers.tmc import TMC

SAMPLERS: dict[str, type[Sampler]] = {
    "standard": Standard,
    "low-temperature": LowTemperature,
    "entropy-cut": EntropyCut,
    "uniform-cut": UniformCut,
    "smc": SMC,
    "power-smc": PowerSMC,
    "tmc": TMC,
    "best-of-n": BestOfN,
    "rejection": Rejection,
}
"""Every sampler by its command-line name. A new one is one file and one line here."""

__all__ = [
    "SAMPLERS",
    "SMC",
    "TMC",
    "BestOfN",
    "EntropyCut",
    "LowTemperature",
    "Observer",
    "PowerSMC",
    "Rejection",
    "Sampler",
    "Standard",
    "UniformCut",
]
