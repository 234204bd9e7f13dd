"""Two chains that each move by the sampler's own kernel and do so together: they meet, and then stay together.

Both share the uniform number and the seed of the proposal, and cut at the same place as often as their cut laws allow
(a maximal coupling). Where they cut there and agree up to it, the proposal is one and the same, and they meet when both
accept it.
"""

from __future__ import annotations

import math

import numpy as np

from powercut.samplers.draw import Draw, request_seeds
from powercut.study.exact import CutSampler
from powercut.target import Judge, Verdict
from powercut.trace import FloatArray, Trace


async def coupled_step(
    draw: Draw, sampler: CutSampler, first: Trace, second: Trace, rng: np.random.Generator
) -> tuple[Trace, Trace]:
    """One step of both at the last horizon; each alone is a step of the sampler."""
    horizon, law = sampler.max_new_tokens, sampler.cut_law
    cuts = coupled_cuts(law.probs(first.entropy), law.probs(second.entropy), rng)
    log_u = -rng.standard_exponential()
    [seed] = request_seeds(rng, 1)
    judges = [
        Judge(sampler.target, law, trace, cut, horizon, log_u) for trace, cut in zip((first, second), cuts, strict=True)
    ]
    one = cuts[0] == cuts[1] and np.array_equal(first.tokens[: cuts[0]], second.tokens[: cuts[1]])

    async def propose(trace: Trace, cut: int, own: list[Judge], lane: int) -> Trace:
        def may_pass(piece: Trace) -> bool:
            verdicts = [judge.add(piece) for judge in own if judge.verdict is not Verdict.REJECTED]
            return any(verdict is not Verdict.REJECTED for verdict in verdicts)

        return trace[:cut].splice(cut, await draw.extend(trace[:cut], horizon, seed, may_pass, lane=lane))

    if one:
        proposals = 2 * [await propose(first, cuts[0], judges, 0)]
    else:
        work = [propose(t, c, [j], i) for i, (t, c, j) in enumerate(zip((first, second), cuts, judges, strict=True))]
        proposals = await draw.together(work)
    moved = [
        proposal if judge.verdict is Verdict.COMPLETE else trace
        for trace, proposal, judge in zip((first, second), proposals, judges, strict=True)
    ]
    return moved[0], moved[1]


def coupled_cuts(first: FloatArray, second: FloatArray, rng: np.random.Generator) -> tuple[int, int]:
    """Cuts by these two laws that agree as often as can be."""
    size = max(len(first), len(second))
    p, q = (np.pad(law, (0, size - len(law))) for law in (first, second))
    common = np.minimum(p, q)
    share = float(common.sum())
    if share > 0 and rng.random() < share:
        cut = int(rng.choice(size, p=common / share))
        return cut, cut
    rests = [law - common for law in (p, q)]
    if min(rest.sum() for rest in rests) <= 0:  # equal but for rounding
        cut = int(rng.choice(size, p=p / p.sum()))
        return cut, cut
    one, other = (int(rng.choice(size, p=rest / rest.sum())) for rest in rests)
    return one, other


async def meeting_time(
    draw: Draw, sampler: CutSampler, first: Trace, second: Trace, lag: int, most: int, rng: np.random.Generator
) -> float:
    """Steps of the first when the two met, having started ``lag`` steps before the other; inf after ``most`` steps."""
    for _ in range(lag):
        tail, step = await sampler.kernel.step(draw, first, sampler.max_new_tokens, rng)
        first = first.splice(step.cut, tail) if step.accepted else first
    for met in range(lag, most + 1):
        if np.array_equal(first.tokens, second.tokens):
            return met
        first, second = await coupled_step(draw, sampler, first, second, rng)
    return math.inf
