"""A tree with an early answer: what the published step and the published schedule do to the length of completions.

The first token either answers at once, after which a stop is due, or works it out in ten tokens. Both have half of the
target's mass. Laws of whole completions, enumerated by the product's own kernel.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from powercut.samplers import EntropyCut, UniformCut
from powercut.study.exact import enumerate_completions, kernel_matrix, procedure_law
from powercut.study.reference import published_matrix
from powercut.trace import FloatArray

HORIZON = 10
PROMPT = (9,)
_STAGES = ((1, 40), (5, 8))
"""Blocks, and the steps at each."""
_LIMIT = 10_000
STOP, AT_ONCE, WORKED_OUT, FORCED = range(4)


def next_token_probs(context: tuple[int, ...], goes_on: float = 0.0) -> FloatArray:
    """The model: after a one-token prompt an answer at once (.45), or two details of .9 to .1 and a stop at the end.

    Where an answer at once should stop it ``goes_on`` with that probability, and then at each token again.
    """
    done, probs = context[len(PROMPT) :], np.zeros(4)
    if not done:
        probs[[AT_ONCE, WORKED_OUT]] = (0.45, 0.55)
    elif len(done) == 1:
        probs[AT_ONCE if done[0] == AT_ONCE else FORCED] = 1
    elif done[0] == AT_ONCE:
        probs[[STOP, FORCED]] = (1 - goes_on, goes_on)
    elif len(done) in (3, 5):
        probs[[AT_ONCE, WORKED_OUT]] = (0.9, 0.1)
    else:
        probs[STOP if len(done) >= HORIZON - 2 else FORCED] = 1
    return probs


def measure(alpha: float) -> Iterator[dict[str, Any]]:
    """Of the target, of published steps, and of exact ones with and without refine_finished: distance, short mass."""
    options: dict[str, Any] = {"alpha": alpha, "max_new_tokens": HORIZON, "top_k": None}
    spaces = [enumerate_completions(next_token_probs, PROMPT, n, 1 / alpha) for n in range(1, HORIZON + 1)]
    final = spaces[-1]
    target = dict(zip(final.completions, final.power(alpha), strict=True))
    start = {tokens: np.exp(trace.logq.sum()) for tokens, trace in zip(final.completions, final.traces, strict=True)}

    def figures(what: str, states: Sequence[tuple[int, ...]], law: FloatArray) -> dict[str, Any]:
        mass = dict(zip(states, law.tolist(), strict=True))
        short = sum(share for tokens, share in mass.items() if len(tokens) < HORIZON // 2)
        apart = 0.5 * sum(abs(mass.get(tokens, 0) - target.get(tokens, 0)) for tokens in mass.keys() | target.keys())
        cut_off = sum(share for tokens, share in mass.items() if tokens not in target)
        return {"what": what, "distance": float(apart), "short": short, "cut_off": cut_off}

    yield figures("the target itself", final.completions, final.power(alpha))
    for name, kind in (("entropy cuts", EntropyCut), ("uniform cuts", UniformCut)):
        one_stage = kind(blocks=1, **options)
        published = published_matrix(final, one_stage)
        exact = final.completions, kernel_matrix(final, one_stage)
        for step, (states, matrix) in (("published step", published), ("exact step", exact)):
            law = np.array([start.get(tokens, 0.0) for tokens in states]) @ np.linalg.matrix_power(matrix, _LIMIT)
            yield figures(f"{name}, {step}, {_LIMIT:,} steps", states, law)
        for refine, (blocks, steps) in itertools.product((False, True), _STAGES):
            staged = kind(blocks=blocks, steps=steps, refine_finished=refine, **options)
            law = procedure_law([spaces[horizon - 1] for horizon in staged.horizons], staged)
            what = "goes on when finished" if refine else "stops when finished"
            yield figures(f"{name}, {blocks} × {steps} steps, {what}", final.completions, law)
