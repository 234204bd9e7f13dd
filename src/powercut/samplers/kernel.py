"""One step of a chain: cut, regenerate, accept or reject. It leaves the power distribution invariant."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from powercut.cuts import CutLaw, pick_cut
from powercut.engines.protocol import KeepGoing
from powercut.errors import SettingError
from powercut.samplers.draw import Draw, request_seeds
from powercut.samplers.repeats import Part, differing_cuts, known_parts, null_steps
from powercut.target import Judge, Power, Rule, Verdict
from powercut.trace import FloatArray, Step, Trace

Count = Literal["steps", "differing"]
"""What is counted: every step, or only those whose proposal differs from the current text."""


class Try(NamedTuple):
    """A proposal before it is decoded: the part ``kept`` of the current text, and the seed of what follows.

    ``first``, where it is not None, follows it in the place of the current text's token. One that ``repeats`` is the
    current text as it stands.
    """

    kept: Trace
    seed: int
    first: Trace | None
    repeats: bool


class Plan(NamedTuple):
    """What a step draws before anything is decoded: where it cuts, log u, and its tries."""

    cut: int
    log_u: float
    tries: tuple[Try, ...]


@dataclass(frozen=True, slots=True)
class Kernel:
    """Metropolis-Hastings on completions, with cuts by ``law``; several ``tries`` at once make it multiple-try.

    With ``early_reject`` a proposal stops as soon as its rejection is certain, which changes no chain.

    Given the cut, proposals do not depend on what follows it, so the tries that are not selected serve as the
    reference points of multiple-try Metropolis, and the prefixes are computed once.

    With ``skip_repeats`` the tokens of a proposal that are those of the current text are not decoded, where the laws
    along it are known, and ``nulls`` passes over the steps that propose nothing else; that is the same kernel
    (repeats.py). A ``step`` that ``differs`` comes after them.

    ``count`` "differing" leaves null steps out. To pass over them without counting them would bias the chain: it would
    stay as long in a text that it seldom leaves as in any other. Here the ratio makes up for that (``LogRatio``), as in
    Liu's Metropolized Gibbs sampler (1996): the target is invariant, and a step leaves a text for any other at least as
    often as one of the plain kernel.

    ``rule`` "published" is the step of arXiv 2605.30327's code, for comparison; it is biased (see ``Rule``).
    """

    target: Power
    law: CutLaw
    early_reject: bool = True
    tries: int = 1
    rule: Rule = "exact"
    skip_repeats: bool = True
    count: Count = "steps"

    def nulls(self, current: Trace, most: int, rng: np.random.Generator) -> int:
        """How many of the next ``most`` steps are null before one is not; 0 where ``step`` makes those too.

        Where only steps that differ count there is none of them, unless nothing can change: then all are.
        Raises SettingError where only steps that differ count, and an engine does not tell the laws that takes.
        """
        if not self._knows(current):
            if self.count == "differing":
                raise SettingError(
                    "count=differing needs the model's law at each token, which this engine does not tell "
                    "with these settings: give top_k a number, or count=steps"
                )
            return 0
        differs = float(differing_cuts(current, self.law, self.tries).sum())
        if self.count == "differing":
            return 0 if differs > 0 else most
        return null_steps(differs, most, rng)

    def _knows(self, current: Trace) -> bool:
        return self.skip_repeats and self.rule == "exact" and current.rows is not None

    def _cut_probs(self, current: Trace, differs: bool) -> FloatArray:
        if not differs:
            return self.law.probs(current.entropy)
        cuts = differing_cuts(current, self.law, self.tries)
        given: FloatArray = cuts / cuts.sum()
        return given

    def plan(
        self,
        current: Trace,
        rng: np.random.Generator,
        temperature_at: Callable[[int], float],
        *,
        differs: bool = False,
    ) -> Plan:
        """What a step from ``current`` draws first; ``temperature_at`` gives the proposal's temperature at a position.

        With ``differs``, and always where only such steps count, it is one that is not null, if the laws along
        ``current`` are known: those before it are passed over by ``nulls``.
        """
        knows = self._knows(current)
        differs = knows and (differs or self.count == "differing")
        cut = pick_cut(self._cut_probs(current, differs), rng)
        # log u, u from U(0, 1]. At alpha = inf a proposal must gain: A > 0 is A >= the smallest positive number.
        log_u = -rng.standard_exponential() if math.isfinite(self.target.alpha) else math.ulp(0.0)
        seeds = request_seeds(rng, self.tries)
        known: list[Part] = [(current[:0], None)] * self.tries
        if knows:
            known = known_parts(current, cut, self.tries, temperature_at, rng, differs=differs)
        tries = (
            Try(current[:cut].splice(cut, shared), seed, leaving, leaving is None and len(shared) > 0)
            for seed, (shared, leaving) in zip(seeds, known, strict=True)
        )
        return Plan(cut, log_u, tuple(tries))

    async def step(
        self,
        draw: Draw,
        current: Trace,
        horizon: int,
        rng: np.random.Generator,
        *,
        differs: bool = False,
        plan: Plan | None = None,
        stage: int = 0,
        lane: int = 0,
        keep_going: KeepGoing | None = None,
    ) -> tuple[Trace, Step]:
        """Move on from ``current`` at ``horizon``: the proposal's tail, and what became of it.

        By ``plan``, if it was made before, and else by one that is made now (``differs``: see there).
        Decodes in lanes ``lane`` to ``lane + tries - 1``; ends early, rejected, once ``keep_going`` says no to a piece.
        """
        if plan is None:
            plan = self.plan(current, rng, draw.temperature_at, differs=differs)
        cut = plan.cut
        if self.rule == "published":
            horizon = len(current)
        judge = Judge(
            *(self.target, self.law, current, cut, horizon, plan.log_u),
            tries=self.tries,
            early_reject=self.early_reject,
            rule=self.rule,
            inside=await draw.fits(current),
            differing=self.count == "differing",
        )

        async def propose(which: int, this: Try) -> tuple[Trace, int]:
            """The tail of a try, and how many of its tokens were not decoded for it."""

            def may_pass(piece: Trace) -> bool:
                return judge.add(piece, which) is not Verdict.REJECTED and (keep_going is None or keep_going(piece))

            shared = this.kept[cut:]
            if (len(shared) and not may_pass(shared)) or this.repeats:
                return shared, len(shared)
            rest = await draw.extend(this.kept, horizon, this.seed, may_pass, lane=lane + which, first=this.first)
            return shared.splice(len(shared), rest), len(shared) + (this.first is not None)

        drawn = await draw.together(propose(*each) for each in enumerate(plan.tries))
        tails = [tail for tail, _ in drawn]
        decoded = sum(len(tail) - known for tail, known in drawn)
        needed = plan.log_u if math.isfinite(self.target.alpha) else None
        if not judge.whole:
            return tails[0], Step(stage, cut, judge.log_accept, False, True, decoded, log_u=needed)
        if judge.verdict is Verdict.COMPLETE:
            for which, tail in enumerate(tails):
                if not await draw.fits(current.splice(cut, tail)):
                    judge.exclude(which)
        which, log_accept, accepted = judge.select(rng)
        at = tails[which].differs_at(current[cut:]) if accepted else None
        changed_at = None if at is None else cut + at
        return tails[which], Step(stage, cut, log_accept, accepted, False, decoded, changed_at, log_u=needed)
