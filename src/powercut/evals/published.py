"""The comparison of arXiv 2605.30327 as a run: its samplers with their published settings, and what they will cost."""

from __future__ import annotations

from typing import Any

from powercut.errors import SettingError
from powercut.evals.runs.plan import Variant
from powercut.evals.tasks.task import Task
from powercut.samplers import SMC, TMC, BestOfN, EntropyCut, LowTemperature, Sampler, Standard, UniformCut

BLOCKS, STEPS = 16, 10
LEAST_SCALE = 0.001


def check_scale(scale: float) -> None:
    """Raise SettingError unless lengths can be multiplied by ``scale``."""
    if not LEAST_SCALE <= scale <= 1:
        raise SettingError(f"scale must be from {LEAST_SCALE:g} to 1 (got {scale:g})")


def scaled(count: int, scale: float) -> int:
    """``count`` times ``scale`` as a whole number, at least 1."""
    return max(1, round(count * scale))


def arms(task: Task, scale: float = 1.0, **cut: Any) -> list[Variant]:
    """The six samplers as published for ``task``, and best-of-n at Entropy-Cut's cost at temperatures 1 and 1/alpha.

    ``scale`` shrinks every length and the steps together; ``cut`` are further settings of the cut samplers.

    Raises SettingError for a scale that is not above 0 and at most 1.
    """
    check_scale(scale)
    common: dict[str, Any] = {"max_new_tokens": BLOCKS * scaled(task.max_new_tokens // BLOCKS, scale)}
    power: dict[str, Any] = {**common, "alpha": task.alpha}
    chain: dict[str, Any] = {**power, "blocks": BLOCKS, "steps": scaled(STEPS, scale), **cut}
    ahead = scaled(192, scale)
    best = [BestOfN(**common, temperature=temperature) for temperature in (1.0, 1 / task.alpha)]
    return [
        Variant("standard", Standard(**common)),
        Variant("low-temperature", LowTemperature(**power)),
        Variant("smc", SMC(**power, particles=64, block_size=scaled(32, scale), ess_threshold=0.5)),
        Variant("tmc", TMC(**power, block_size=ahead, horizon=ahead, candidates=64, keep=8, rollouts=8)),
        Variant("uniform-cut", UniformCut(**chain)),
        Variant("entropy-cut", EntropyCut(**chain, beta=4.0)),
        *(Variant("best-of-n", sampler, match="entropy-cut") for sampler in best),
    ]


def expected_cost(sampler: Sampler, length: float) -> float:
    """Decoded tokens of one completion by one of ``arms``, if completions have ``length`` tokens.

    As if all of every proposal were decoded, and cuts were uniform: other cut laws may re-open more of a text, or less.
    """
    match sampler:
        case SMC():
            return sampler.particles * length
        case TMC():
            blocks = -(-length // sampler.block_size)
            open_ends = max(0.0, blocks - 1)  # nothing is to be looked at behind the last
            rollouts = min(sampler.keep, sampler.candidates) * sampler.rollouts * sampler.horizon
            return sampler.candidates * length + open_ends * rollouts
        case EntropyCut() | UniformCut():
            ends = (0, *sampler.horizons)
            reached = [min(end, length) for begin, end in zip(ends, sampler.horizons, strict=False) if begin < length]
            return length + sampler.steps * sum((end + 1) / 2 for end in reached)
        case _:
            return length
