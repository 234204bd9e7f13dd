"""Samplers: frozen settings that, called with an engine and a prompt, draw one completion. One file per algorithm."""

from powercut.samplers.best_of_n import BestOfN
from powercut.samplers.cut import EntropyCut, UniformCut
from powercut.samplers.draw import Observer
from powercut.samplers.plain import LowTemperature, Standard
from powercut.samplers.rejection import Rejection
from powercut.samplers.sampler import Sampler
from powercut.samplers.smc import SMC, PowerSMC
from powercut.samplers.tmc import TMC

BEST_OF_N = "best-of-n"
"""The sampler that may be given what another one spent."""

SAMPLERS: dict[str, type[Sampler]] = {
    "standard": Standard,
    "low-temperature": LowTemperature,
    "entropy-cut": EntropyCut,
    "uniform-cut": UniformCut,
    "smc": SMC,
    "power-smc": PowerSMC,
    "tmc": TMC,
    BEST_OF_N: BestOfN,
    "rejection": Rejection,
}
"""Every sampler by its command-line name. A new one is one file and one line here."""

__all__ = [
    "BEST_OF_N",
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
