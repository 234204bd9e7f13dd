"""Every sampler on problems of anchors: what is right after each step, and what it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from powercut.engines.protocol import Engine
from powercut.engines.table import TableEngine
from powercut.run import sample
from powercut.samplers import (
    SMC,
    TMC,
    BestOfN,
    EntropyCut,
    LowTemperature,
    PowerSMC,
    Sampler,
    Standard,
    UniformCut,
)
from powercut.study.anchors.task import END, LENGTH, AnchorLaw, Problems, answer, exact_share_right
from powercut.study.findings import Record
from powercut.trace import Completion, Event

SHIPPED = Path(__file__).with_name("anchor-lm")
"""A language model of 335 thousand parameters that was taught the law; benchmarks/train_anchors.py trains another."""

FORCED = 20
"""Forced tokens before the decision, in the control."""

MATCHED = "best of n, at its cost"
"""Best-of-n with the tokens that the first entropy-cut sampler took on the same problem."""

_STAGES = 8


@dataclass(frozen=True)
class Portion:
    """Problems ``start`` to ``stop`` - 1, of ``problems`` in all, with the sampler called ``name``.

    ``forced`` tokens stand before each solution; ``steps`` are a sampler's Metropolis-Hastings steps in all.
    """

    name: str
    start: int
    stop: int
    forced: int
    problems: int
    steps: int
    alpha: float
    seed: int

    @property
    def keys(self) -> list[str]:
        """The keys of its records."""
        names = [self.name, MATCHED] if self.name == FIRST and not self.forced else [self.name]
        return [f"{name}, {self.forced} forced, problems {self.start} to {self.stop - 1}" for name in names]

    def measure(self, engine: Engine) -> dict[str, Record]:
        """Draw a completion of each problem; returns the records by their keys."""
        problems = Problems.draw(np.random.default_rng(self.seed), self.problems)
        length = LENGTH + self.forced
        first, drawn = self._measure(engine, problems, self.name, samplers(self.steps, self.alpha, length)[self.name])
        records = [first]
        if len(self.keys) > 1:
            best = BestOfN(max_new_tokens=length, top_k=None)
            records.append(self._measure(engine, problems, MATCHED, best, match=drawn)[0])
        return dict(zip(self.keys, records, strict=True))

    def _measure(
        self, engine: Engine, problems: Problems, name: str, sampler: Sampler, **options: Any
    ) -> tuple[Record, list[Completion]]:
        count, answers = self.stop - self.start, problems.answers[self.start : self.stop].tolist()
        right: list[list[bool]] = [[] for _ in range(count)]
        decoded: list[list[int]] = [[] for _ in range(count)]

        def is_right(i: int, tokens: Any) -> bool:
            return bool(answer(tokens) == answers[i])

        def stay(i: int, steps: int) -> None:
            """So many null steps, which change and cost nothing."""
            right[i] += right[i][-1:] * steps
            decoded[i] += decoded[i][-1:] * steps

        def observe(i: int, _: int, event: Event) -> None:
            took = len(event.proposal) if event.step is None else event.step.tokens_decoded
            stay(i, 0 if event.step is None else event.step.nulls)
            right[i].append(is_right(i, event.trace.tokens))
            decoded[i].append((decoded[i][-1] if decoded[i] else 0) + took)

        prompts = [problems.prompt(i) for i in range(self.start, self.stop)]
        seed = int(np.random.SeedSequence((self.seed, self.start)).generate_state(1)[0])
        follow = observe if self.name in CURVES and name == self.name else None
        drawn = sample(engine, sampler, prompts, seed=seed, observe=follow, **options)
        for i in range(count if follow else 0):
            stay(i, 1 + self.steps - len(right[i]))
        anchors = problems.anchor[self.start : self.stop]
        firsts = [int(c.tokens[self.forced]) - 10 if len(c.tokens) > self.forced else None for c in drawn]
        record = {
            "sampler": name,
            "forced": self.forced,
            "start": self.start,
            "right": [is_right(i, c.tokens) for i, c in enumerate(drawn)],
            "anchor": [first == anchor for first, anchor in zip(firsts, anchors.tolist(), strict=True)],
            "tokens_decoded": [c.stats.tokens_decoded for c in drawn],
            "acceptance": [c.stats.acceptance for c in drawn],
            "changed": [c.stats.changed for c in drawn],
        }
        if follow:
            record |= {"right_after": right, "decoded_after": decoded}
        return record, drawn


def samplers(steps: int, alpha: float, length: int) -> Mapping[str, Sampler]:
    """The samplers by their names in the report; those with steps have ``steps`` in all."""
    room = -(-length // _STAGES) * _STAGES  # stages of equal length
    own: dict[str, Any] = {"max_new_tokens": room, "top_k": None}
    power: dict[str, Any] = own | {"alpha": alpha}
    one: dict[str, Any] = power | {"blocks": 1, "steps": steps, "refine_finished": True}
    staged: dict[str, Any] = power | {"blocks": _STAGES, "steps": max(1, steps // _STAGES)}
    refined = staged | {"refine_finished": True}
    particles: dict[str, Any] = power | {"particles": 16, "block_size": 5}
    return {
        "standard": Standard(**own),
        "low temperature": LowTemperature(**power),
        "entropy cuts, β 4": EntropyCut(beta=4, **one),
        "entropy cuts, β 1": EntropyCut(beta=1, **one),
        "entropy cuts, β 4 + 0.1 uniform": EntropyCut(beta=4, uniform_mix=0.1, **one),
        "uniform cuts": UniformCut(**one),
        "entropy cuts, stages, stops when finished": EntropyCut(beta=4, **staged),
        "entropy cuts, stages, goes on": EntropyCut(beta=4, **refined),
        "uniform cuts, stages, stops when finished": UniformCut(**staged),
        "uniform cuts, stages, goes on": UniformCut(**refined),
        "SMC, 16 particles": SMC(**particles),
        "Power-SMC, 16 particles": PowerSMC(ramp_tokens=length, **particles),
        "TMC": TMC(block_size=5, candidates=16, keep=4, rollouts=4, horizon=10, **power),
    }


FIRST = "entropy cuts, β 4"
"""The sampler that others are tested against."""

CURVES = (FIRST, "entropy cuts, β 1", "entropy cuts, β 4 + 0.1 uniform", "uniform cuts")
"""Samplers of one stage, whose accuracy is followed step by step."""

CONTROL = ("low temperature", FIRST, "uniform cuts")
"""Samplers of the control."""


def portions(problems: int, steps: int, alpha: float, seed: int, size: int, *, control: bool) -> list[Portion]:
    """All of the work in pieces of ``size`` problems; the ``control`` too, which needs the exact law."""
    several = [(name, 0) for name in samplers(steps, alpha, LENGTH)]
    several += [(name, FORCED) for name in CONTROL] if control else []
    return [
        Portion(name, start, min(start + size, problems), forced, problems, steps, alpha, seed)
        for name, forced in several
        for start in range(0, problems, size)
    ]


def measure_exactly(portion: Portion) -> dict[str, Record]:
    """A portion with the exact law as the model."""
    return portion.measure(TableEngine(AnchorLaw(portion.forced), END))


def exact_accuracy(problems: int, alpha: float, seed: int) -> dict[str, float]:
    """Accuracy on these problems under the model, under low temperature and under the power distribution, computed."""
    drawn = Problems.draw(np.random.default_rng(seed), problems)

    def mean(power: float, *, low_temperature: bool = False) -> float:
        shares: Sequence[float] = [
            exact_share_right(drawn, i, power, low_temperature=low_temperature) for i in range(problems)
        ]
        return float(np.mean(shares))

    return {
        "standard": mean(1.0),
        "low temperature": mean(alpha, low_temperature=True),
        "the power distribution": mean(alpha),
    }
