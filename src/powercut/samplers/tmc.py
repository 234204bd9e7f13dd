"""TMC, scalable power sampling (arXiv 2601.21590): blocks chosen with the help of rollouts. Approximate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from powercut.samplers.draw import Draw, request_seeds, spawn
from powercut.samplers.sampler import Sharpened, Targeted
from powercut.samplers.settings import setting
from powercut.target import normalise
from powercut.trace import Completion, FloatArray, Population, Trace


@dataclass(frozen=True, kw_only=True)
class TMC(Targeted, Sharpened):
    """Completions built block by block: of several candidates one is kept, in proportion to p(block)^alpha times zeta.

    zeta is the mass of p^alpha on all that can follow, estimated by ``rollouts`` of ``horizon`` tokens from each of the
    ``keep`` most likely distinct candidates. It would be exact if the candidates were all the blocks there are and the
    rollouts ran to the end; neither holds, so the law is only near p^alpha, and its cost is high: each block decodes
    up to candidates x block_size + keep x rollouts x horizon tokens.
    """

    block_size: int = setting(192, "Tokens drawn between two weighings.", at_least=1, whole=True)
    candidates: int = setting(64, "Blocks drawn at each turn.", at_least=1, whole=True)
    keep: int = setting(8, "Candidates, the most likely ones, that are weighed by rollouts.", at_least=1, whole=True)
    rollouts: int = setting(8, "Rollouts from each of these.", at_least=1, whole=True)
    horizon: int = setting(192, "Tokens of a rollout.", at_least=1, whole=True)

    @property
    def width(self) -> int:
        """Candidates decode at once, then all rollouts."""
        return max(self.candidates, min(self.keep, self.candidates) * self.rollouts)

    async def run(self, draw: Draw, rng: np.random.Generator) -> Completion:
        """Draw one completion (see ``Sampler.run``)."""
        trace, chosen = Trace.empty(), 0
        stages = -(-self.max_new_tokens // self.block_size)
        for stage in range(stages):
            drawer, looker, picker = spawn(spawn(rng, 1)[0], 3)
            end = min(len(trace) + self.block_size, self.max_new_tokens)
            seeds = request_seeds(drawer, self.candidates)
            drawn = await draw.together(draw.extend(trace, end, seed, lane=i) for i, seed in enumerate(seeds))
            blocks = self._best(drawn)
            log_zeta = await self._look_ahead(draw, trace, blocks, end, looker)
            log_power = np.array([self.target.log_density(block) for block in blocks])
            probs = jackknife_probs(log_power, log_zeta)
            grown = tuple(trace.splice(len(trace), block) for block in blocks)
            parents = np.full(len(blocks), chosen) if stage else np.arange(len(blocks))
            with np.errstate(divide="ignore"):  # a candidate without a chance
                candidates = Population(grown, np.log(probs), parents)
            chosen = int(picker.choice(len(blocks), p=probs))
            trace = grown[chosen]
            draw.show(blocks[chosen], trace, stage=stage, stages=stages, population=candidates)
            if trace.finished:
                break
        return await draw.complete(trace)

    def _best(self, blocks: list[Trace]) -> list[Trace]:
        """The ``keep`` most likely distinct blocks; one that was drawn twice is still one block."""
        distinct = list({block.tokens.tobytes(): block for block in blocks}.values())
        return sorted(distinct, key=lambda block: -block.logp.sum())[: self.keep]

    async def _look_ahead(
        self, draw: Draw, trace: Trace, blocks: list[Trace], end: int, rng: np.random.Generator
    ) -> FloatArray:
        """Log weights of the rollouts behind each block, ``[blocks, rollouts]``; 0 where nothing can follow."""
        log_zeta = np.zeros((len(blocks), self.rollouts))
        horizon = min(end + self.horizon, self.max_new_tokens)
        if len(blocks) == 1 or horizon == end:  # no choice to make, or nothing to look at
            return log_zeta
        all_seeds = np.array(request_seeds(rng, log_zeta.size)).reshape(log_zeta.shape)
        open_ends = [(i, m) for i, block in enumerate(blocks) if not block.finished for m in range(self.rollouts)]
        rollouts = await draw.together(
            draw.extend(trace.splice(len(trace), blocks[i]), horizon, int(all_seeds[i, m]), lane=lane)
            for lane, (i, m) in enumerate(open_ends)
        )
        for place, rollout in zip(open_ends, rollouts, strict=True):
            log_zeta[place] = self.target.increments(rollout).sum()
        return log_zeta


def jackknife_probs(log_power: FloatArray, log_zeta: FloatArray) -> FloatArray:
    """Probabilities ``[n]`` in proportion to exp(log_power) x mean exp(log_zeta), the ratio's bias reduced.

    ``log_power`` ``[n]``; ``log_zeta`` ``[n, M]``, one column a rollout. A ratio of estimates is biased by O(1/M); the
    jackknife over rollouts leaves O(1/M^2), and what it makes negative is clipped (arXiv 2601.21590).
    """

    def plain(columns: FloatArray) -> FloatArray:
        return normalise(log_power + np.logaddexp.reduce(columns, axis=1))

    count = log_zeta.shape[1]
    if count == 1:
        return plain(log_zeta)
    without = np.mean([plain(np.delete(log_zeta, m, axis=1)) for m in range(count)], axis=0)
    corrected = np.maximum(count * plain(log_zeta) - (count - 1) * without, 0.0)
    probs: FloatArray = corrected / corrected.sum()
    return probs
