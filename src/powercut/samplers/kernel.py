"""One step of a chain: cut, regenerate, accept or reject. It leaves the power distribution invariant."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from powercut.cuts import CutLaw
from powercut.samplers.draw import Draw, request_seeds
from powercut.samplers.repeats import known_part
from powercut.target import Judge, Power, Rule, Verdict
from powercut.trace import Step, Trace


@dataclass(frozen=True, slots=True)
class Kernel:
    """Metropolis-Hastings on completions, with cuts by ``law``; several ``tries`` at once make it multiple-try.

    With ``early_reject`` a proposal stops as soon as its rejection is certain, which changes no chain.

    Given the cut, proposals do not depend on what follows it, so the tries that are not selected serve as the
    reference points of multiple-try Metropolis, and the prefixes are computed once.

    With ``skip_repeats`` the tokens of a proposal that are those of the current text are not decoded, where the laws
    along it are known; that is the same kernel (repeats.py).

    ``rule`` "published" is the step of arXiv 2605.30327's code, for comparison; it is biased (see ``Rule``).
    """

    target: Power
    law: CutLaw
    early_reject: bool = True
    tries: int = 1
    rule: Rule = "exact"
    skip_repeats: bool = True

    async def step(
        self,
        draw: Draw,
        current: Trace,
        horizon: int,
        rng: np.random.Generator,
        *,
        stage: int = 0,
        lane: int = 0,
        is_void: Callable[[], bool] = lambda: False,
    ) -> tuple[Trace, Step]:
        """Move on from ``current`` at ``horizon``: the proposal's tail, and what became of it.

        Decodes in lanes ``lane`` to ``lane + tries - 1``; ends early, rejected, once ``is_void`` says so.
        """
        cut = int(rng.choice(len(current), p=self.law.probs(current.entropy)))
        # log u, u from U(0, 1]. At alpha = inf a proposal must gain: A > 0 is A >= the smallest positive number.
        log_u = -rng.standard_exponential() if math.isfinite(self.target.alpha) else math.ulp(0.0)
        if self.rule == "published":
            horizon = len(current)
        judge = Judge(
            *(self.target, self.law, current, cut, horizon, log_u),
            tries=self.tries,
            early_reject=self.early_reject,
            rule=self.rule,
            inside=await draw.fits(current),
        )

        skips, full = self.skip_repeats and self.rule == "exact", len(current) == horizon

        async def propose(which: int, seed: int, shared: Trace, leaving: Trace | None) -> tuple[Trace, int]:
            """The tail of a try, and how many of its tokens were not decoded for it."""

            def may_pass(piece: Trace) -> bool:
                return judge.add(piece, which) is not Verdict.REJECTED and not is_void()

            is_current = leaving is None and len(shared) == len(current) - cut and (shared.finished or full)
            if (len(shared) and not may_pass(shared)) or is_current:
                return shared, len(shared)
            kept = current[:cut].splice(cut, shared)
            rest = await draw.extend(kept, horizon, seed, may_pass, lane=lane + which, first=leaving)
            return shared.splice(len(shared), rest), len(shared) + (leaving is not None)

        seeds = request_seeds(rng, self.tries)
        known = [known_part(current, cut, draw.temperature_at, rng) if skips else (current[:0], None) for _ in seeds]
        drawn = await draw.together(propose(i, seed, *known[i]) for i, seed in enumerate(seeds))
        tails = [tail for tail, _ in drawn]
        decoded = sum(len(tail) - known for tail, known in drawn)
        if not judge.whole:
            return tails[0], Step(stage, cut, judge.log_accept, False, True, decoded)
        if judge.verdict is Verdict.COMPLETE:
            for which, tail in enumerate(tails):
                if not await draw.fits(current.splice(cut, tail)):
                    judge.exclude(which)
        which, log_accept, accepted = judge.select(rng)
        differs = tails[which].differs_at(current[cut:]) if accepted else None
        changed_at = None if differs is None else cut + differs
        return tails[which], Step(stage, cut, log_accept, accepted, False, decoded, changed_at)
