"""Samplers: frozen settings that, called with an engine and a prompt, draw one completion. One file per algorithm."""

from powercut.samplers.base import Observer, Sampler
from powercut.samplers.cut import EntropyCut, UniformCut
from powercut.samplers.plain import LowTemperature, Standard

SAMPLERS: dict[str, type[Sampler]] = {
    "standard": Standard,
    "low-temperature": LowTemperature,
    "entropy-cut": EntropyCut,
    "uniform-cut": UniformCut,
}
"""Every sampler by its command-line name. A new one is one file and one line here."""

__all__ = ["SAMPLERS", "EntropyCut", "LowTemperature", "Observer", "Sampler", "Standard", "UniformCut"]
