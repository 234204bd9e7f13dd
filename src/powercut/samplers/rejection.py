"""Rejection sampling: independent draws of the power distribution, exact, where it can be afforded.

A proposal from q is accepted with probability exp(sum g), which is at most 1 as every increment g is at most 0. What is
accepted has the law p^alpha exactly, and the acceptance rate estimates its mass without bias. The rate falls with the
length: for short completions, and as the reference of every other sampler.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from powercut.errors import BudgetError, SettingError
from powercut.samplers.draw import Draw, request_seeds, spawn
from powercut.samplers.sampler import Restricted, Sharpened, Targeted
from powercut.samplers.settings import setting
from powercut.target import LogWeight
from powercut.trace import Completion, Trace


@dataclass(frozen=True, kw_only=True)
class Rejection(Restricted, Targeted, Sharpened):
    """Proposals at ``temperature`` until one is accepted, at most ``max_tries`` of them: an exact draw of p^alpha.

    u is drawn before a proposal, which stops as soon as its rejection is certain. ``stats.tries`` counts the proposals:
    with m draws of one prompt, (m - 1) / (sum of their tries - 1) estimates Z = sum_x p(x)^alpha without bias. With a
    ``length_bonus`` b the weight is p^alpha e^(b n) / q over its bound e^(b T), T being max_new_tokens (1 where b < 0),
    and so is Z.

    Raises SettingError for a temperature at which a token's weight can exceed 1 (from 1/alpha to 1 it cannot), and
    BudgetError for a completion of which no try was accepted: a bound that cuts the law short is no law.
    """

    max_tries: int = setting(
        10_000, "Proposals for one completion, at the most.", at_least=1, at_most=1_000_000_000, whole=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.target.monotone:
            raise SettingError(
                f"temperature must be from 1/alpha to 1 for rejection sampling (got {self.temperature}): "
                "leave it out for 1/alpha"
            )

    async def run(self, draw: Draw, rng: np.random.Generator) -> Completion:
        """Draw one completion (see ``Sampler.run``); try i has the i-th child of the seed."""
        most = max(0.0, self.length_bonus) * self.max_new_tokens  # log of the bound on a weight
        for tries in range(1, self.max_tries + 1):
            own = spawn(rng, 1)[0]
            log_u = -own.standard_exponential()
            weight = LogWeight(self.target, self.max_new_tokens)

            def may_pass(piece: Trace, weight: LogWeight = weight, log_u: float = log_u) -> bool:
                weight.add(piece)
                return weight.value - most >= log_u

            [seed] = request_seeds(own, 1)
            trace = await draw.extend(Trace.empty(), self.max_new_tokens, seed, may_pass)
            draw.show(trace, trace, stage=tries - 1, stages=self.max_tries)
            if weight.value - most >= log_u and await draw.fits(trace):
                return await draw.complete(trace, tries=tries)
        raise BudgetError(
            f"none of {self.max_tries} proposals was accepted: raise max_tries, or lower alpha or max_new_tokens"
            + (", or require less" if self.require is not None else "")
        )
