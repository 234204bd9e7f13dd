"""One step of the exact kernel: cut, regenerate, accept or reject. What leaves the power distribution invariant."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from powercut.cuts import CutLaw
from powercut.samplers.base import Draw
from powercut.target import LogRatio, Power, log_accept_tries, normalise
from powercut.trace import Step, Trace

_SLACK = 1e-9
"""Nats by which a bound on several tries must miss before they stop: far above its rounding. One try needs none."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Metropolis-Hastings on completions, with cuts by ``law``; several ``tries`` at once make it multiple-try.

    With ``early_reject`` a proposal stops as soon as its rejection is certain, which changes no chain.

    Given the cut, proposals do not depend on what follows it, so the tries that are not selected serve as the
    reference points of multiple-try Metropolis, and the prefixes are computed once.
    """

    target: Power
    law: CutLaw
    early_reject: bool = True
    tries: int = 1

    async def step(
        self,
        draw: Draw,
        current: Trace,
        horizon: int,
        rng: np.random.Generator,
        *,
        stage: int = 0,
        lane: int = 0,
        wanted: Callable[[], bool] = lambda: True,
    ) -> tuple[Trace, Step]:
        """Move on from ``current`` at ``horizon``: the proposal's tail, and what became of it.

        Decodes in lanes ``lane`` to ``lane + tries - 1``; ends early, rejected, once ``wanted`` says no.
        """
        cut = int(rng.choice(len(current), p=self.law.probs(current.entropy)))
        # At alpha = inf a proposal must gain: A > 0 is A >= the smallest positive number.
        log_u = math.log1p(-rng.random()) if math.isfinite(self.target.alpha) else math.ulp(0.0)
        seeds = rng.integers(2**63, size=self.tries)
        tries = [_Try(LogRatio(self.target, self.law, current, cut)) for _ in seeds]
        may_stop = self.early_reject and self.target.monotone
        slack = _SLACK if self.tries > 1 else 0.0

        def log_accept() -> float:
            """The most that any try, if selected, can be accepted with: they are upper bounds while they grow."""
            values = np.array([t.ratio.value for t in tries])
            return float(log_accept_tries(values).max()) if values.max() < math.inf else math.inf

        async def propose(which: int) -> Trace:
            this = tries[which]

            def may_pass(piece: Trace) -> bool:
                this.ratio.add(piece)
                this.whole = piece.finished or cut + this.ratio.length == horizon
                ended = all(t.whole for t in tries)
                return wanted() and (log_accept() >= log_u - slack * (not ended) or not (ended or may_stop))

            return await draw.extend(current[:cut], horizon, int(seeds[which]), may_pass, lane=lane + which)

        tails = await draw.together(propose(i) for i in range(self.tries))
        decoded = sum(map(len, tails))
        if not all(t.whole for t in tries):
            return tails[0], Step(stage, cut, log_accept(), False, True, decoded)
        values = np.array([t.ratio.value for t in tries])
        choosable = self.tries > 1 and values.max() > -math.inf
        chosen = int(rng.choice(self.tries, p=normalise(values))) if choosable else 0
        log_accept_chosen = float(log_accept_tries(values)[chosen])
        return tails[chosen], Step(stage, cut, log_accept_chosen, log_accept_chosen >= log_u, False, decoded)


@dataclass(slots=True)
class _Try:
    """A proposal that is being decoded."""

    ratio: LogRatio
    whole: bool = False
