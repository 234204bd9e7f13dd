"""The shaped targets on the tree with an early answer, by enumeration: no chain, no model.

A text that answers at once goes on where it should stop with a small probability, as a model's may: otherwise nothing
could follow where no stop is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from powercut.samplers import EntropyCut
from powercut.study.exact import BoolArray, Space, enumerate_completions, procedure_law
from powercut.study.tree.early_answer import AT_ONCE, HORIZON, PROMPT, WORKED_OUT, next_token_probs

GOES_ON = 0.02
"""Chance that a text which answered at once goes on where it should stop."""

_BONUSES, _LEAST = (-0.2, -0.1, 0.05, 0.1, 0.2, 0.3, 0.5), (2, 4, 6, 8)
_STAGES, _STEPS = 5, 8


@dataclass(frozen=True)
class Shaped:
    """p^alpha with one of the settings that shape it; ``worked_out``: the text must have worked the answer out."""

    name: str
    min_new_tokens: int = 0
    length_bonus: float = 0.0
    worked_out: bool = False

    def measure(self, alpha: float) -> dict[str, Any]:
        """Of the target: tokens, mass of answers at once; and of a staged schedule of entropy cuts, its distance."""
        horizons = [round(HORIZON * stage / _STAGES) for stage in range(1, _STAGES + 1)]
        spaces = [_space(n, 1 / alpha, self.min_new_tokens) for n in horizons]
        final, inside = spaces[-1], None
        if self.worked_out:
            inside = final.inside(_worked_out, last=True)
        law = final.power(alpha, self.length_bonus, inside)
        sampler = EntropyCut(
            alpha=alpha,
            beta=1,
            max_new_tokens=HORIZON,
            top_k=None,
            blocks=_STAGES,
            steps=_STEPS,
            refine_finished=True,
            length_bonus=self.length_bonus,
            min_new_tokens=self.min_new_tokens,
        )
        sampled = procedure_law(spaces, sampler, _worked_out if self.worked_out else None)
        return {
            "tokens": float(law @ [len(x) for x in final.completions]),
            "at_once": float(law[_at_once(final)].sum()),
            "sampled_tokens": float(sampled @ [len(x) for x in final.completions]),
            "sampled_at_once": float(sampled[_at_once(final)].sum()),
            "distance": float(0.5 * np.abs(sampled - law).sum()),
        }


SHAPED = {
    shaped.name: shaped
    for shaped in (
        Shaped("p^α"),
        *(Shaped(f"min_new_tokens {m}", min_new_tokens=m) for m in _LEAST),
        *(Shaped(f"length_bonus {b:g}", length_bonus=b) for b in _BONUSES),
        Shaped("require: worked out", worked_out=True),
    )
}
"""What the report shows, by name."""


def _worked_out(tokens: tuple[int, ...]) -> bool:
    return tokens[0] == WORKED_OUT


def _at_once(space: Space) -> BoolArray:
    return np.array([tokens[0] == AT_ONCE for tokens in space.completions])


@cache
def _space(horizon: int, temperature: float, min_new_tokens: int) -> Space:
    least = min(min_new_tokens, horizon)
    return enumerate_completions(
        partial(next_token_probs, goes_on=GOES_ON), PROMPT, horizon, temperature, min_new_tokens=least
    )
