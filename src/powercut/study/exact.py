"""Exact laws of small models by enumeration: the power distribution, the kernel's transitions, a staged chain's law.

Completions, their probabilities and the cut law are written out by the definitions, without a sampler's help; where a
function uses the sampler's own parts (``kernel_matrix``), that is what it is for. A model is a function from the token
ids so far to probabilities, as for ``TableEngine``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powercut.samplers import EntropyCut, UniformCut
from powercut.samplers.draw import REDRAWS
from powercut.target import log_accept_tries, log_ratio, normalise
from powercut.trace import FloatArray, Rows, Trace

EOS = 0
"""The token that ends a completion of these models."""

NextTokenProbs = Callable[[tuple[int, ...]], ArrayLike]
BoolArray = NDArray[np.bool_]
CutSampler = EntropyCut | UniformCut
LogAccept = Callable[[Trace, Trace, int], float]
"""The log acceptance ratio of moving from one completion to another, re-opened at a cut."""


@dataclass(frozen=True)
class Space:
    """All completions of positive probability at one horizon: their tokens, and what the definitions say of them.

    ``index`` is where each stands in ``completions`` and ``traces``.
    """

    horizon: int
    completions: list[tuple[int, ...]]
    traces: list[Trace]
    index: dict[tuple[int, ...], int]

    @property
    def logp(self) -> FloatArray:
        """Log-probability of each completion, nats."""
        return np.array([trace.logp.sum() for trace in self.traces])

    def power(self, alpha: float, length_bonus: float = 0.0, inside: BoolArray | None = None) -> FloatArray:
        """The power distribution, pi(x) ∝ p(x)^alpha, times e^(b n) for completions of n tokens; 0 but ``inside``."""
        log_pi = alpha * self.logp + length_bonus * np.array([len(x) for x in self.completions])
        return normalise(log_pi if inside is None else np.where(inside, log_pi, -np.inf))

    def inside(self, has: Callable[[tuple[int, ...]], bool], *, last: bool) -> BoolArray:
        """Which completions the target allows: finished ones if they have it, unfinished ones before the last stage."""
        return np.array(
            [has(x) if t.finished else not last for x, t in zip(self.completions, self.traces, strict=True)]
        )


def enumerate_completions(
    probs: NextTokenProbs,
    prompt: tuple[int, ...],
    horizon: int,
    temperature: float,
    top_k: int | None = None,
    min_new_tokens: int = 0,
) -> Space:
    """Finished completions of at most ``horizon`` tokens and unfinished ones of exactly that many.

    ``temperature`` is that of the proposal; ``top_k`` truncates the model, which is conditioned on no stop before
    ``min_new_tokens`` tokens.
    """
    traces: dict[tuple[int, ...], Trace] = {}

    def grow(
        tokens: tuple[int, ...],
        logp: tuple[float, ...],
        logq: tuple[float, ...],
        entropy: tuple[float, ...],
        rows: tuple[FloatArray, ...],
    ) -> None:
        if tokens and (tokens[-1] == EOS or len(tokens) == horizon):
            ids, *laws = (np.array(column) for column in (tokens, logp, logq, entropy, rows))
            known = Rows(np.tile(np.arange(len(rows[0]), dtype=np.int32), (len(tokens), 1)), laws[3])
            traces[tokens] = Trace(ids, laws[0], laws[1], laws[2], finished=tokens[-1] == EOS, rows=known)
            return
        p = np.array(probs(prompt + tokens), dtype=float)
        if top_k is not None:
            p[np.argsort(-p, kind="stable")[top_k:]] = 0
        if len(tokens) < min_new_tokens:
            p[EOS] = 0
        p /= p.sum()
        support = np.flatnonzero(p)
        q = np.where(p > 0, p ** (1 / temperature), 0)
        q /= q.sum()
        h = -sum(p[v] * np.log(p[v]) for v in support)
        row = np.where(p > 0, np.log(np.where(p > 0, p, 1)), -np.inf)
        for v in support:
            grow((*tokens, int(v)), (*logp, np.log(p[v])), (*logq, np.log(q[v])), (*entropy, h), (*rows, row))

    grow((), (), (), (), ())
    completions = list(traces)
    return Space(horizon, completions, list(traces.values()), {x: i for i, x in enumerate(completions)})


def kappa(trace: Trace, beta: float | None, mix: float) -> FloatArray:
    """The cut law by its definition; beta None is the uniform law."""
    n = len(trace)
    previous = [0.0, *trace.entropy[:-1]]
    w = [1.0 if beta is None else max(0.0, h - g) ** beta for h, g in zip(trace.entropy, previous, strict=True)]
    total = sum(w)
    return np.array([(1 - mix) * (wc / total) + mix / n if total else 1 / n for wc in w])


def kernel_matrix(
    space: Space, sampler: CutSampler, log_accept: LogAccept | None = None, inside: BoolArray | None = None
) -> FloatArray:
    """The transition matrix of one step at this horizon: the sampler's own cut law and acceptance ratio, enumerated.

    ``log_accept(x, y, cut)`` replaces the sampler's ratio. ``inside`` are the completions that the target allows (None:
    all): no other is accepted, and from another each of them is. Where only steps that differ count, it is that of one.
    """
    law, target, differing = sampler.cut_law, sampler.target, sampler.count == "differing"
    if log_accept is None:

        def log_accept(x: Trace, y: Trace, cut: int) -> float:
            return log_ratio(target, law, x, y, cut, differing=differing)

    size = len(space.completions)
    matrix = np.zeros((size, size))
    for i, x in enumerate(space.traces):
        probs = law.probs(x.entropy)
        if differing and (differs := 1 - sum(p * np.exp(x.logq[cut:].sum()) for cut, p in enumerate(probs))) > 1e-12:
            probs = probs / differs
        for cut, prob in enumerate(probs):
            if prob == 0:
                continue
            for j in _sharing(space, x, cut):
                y = space.traces[j]
                if differing and i == j:
                    continue
                accept = np.exp(min(0.0, log_accept(x, y, cut)))
                if inside is not None:
                    accept = accept * inside[j] if inside[i] else float(inside[j])
                matrix[i, j] += prob * np.exp(y.logq[cut:].sum()) * accept
        matrix[i, i] += 1 - matrix[i].sum()
    return matrix


def tries_matrix(
    space: Space,
    sampler: CutSampler,
    log_accept: Callable[[FloatArray], FloatArray] = log_accept_tries,
    ratio: Callable[..., float] = log_ratio,
) -> FloatArray:
    """The transition matrix of a step with ``sampler.tries`` proposals: every tuple of them, every selection.

    ``log_accept`` and ``ratio`` replace the product's own.
    """
    matrix = np.zeros((len(space.traces),) * 2)
    for i, x in enumerate(space.traces):
        for cut, prob in enumerate(sampler.cut_law.probs(x.entropy)):
            if prob == 0:
                continue
            near = _sharing(space, x, cut)
            values = {j: ratio(sampler.target, sampler.cut_law, x, space.traces[j], cut) for j in near}
            drawn = {j: np.exp(space.traces[j].logq[cut:].sum()) for j in near}
            for tries in itertools.combinations_with_replacement(near, sampler.tries):
                orders = len(set(itertools.permutations(tries)))
                log_weights = np.array([values[j] for j in tries])
                chances = prob * orders * np.prod([drawn[j] for j in tries]) * normalise(log_weights)
                for j, chance in zip(tries, chances * np.exp(np.minimum(log_accept(log_weights), 0)), strict=True):
                    matrix[i, j] += chance
        matrix[i, i] += 1 - matrix[i].sum()
    return matrix


def extension_matrix(short: Space | None, long: Space, inside: BoolArray | None = None) -> FloatArray:
    """From the completions at one horizon (None: the empty one) to those at the next, by the proposal.

    What is not ``inside`` is drawn again, up to REDRAWS times in all.
    """
    starts = [Trace.empty()] if short is None else short.traces
    matrix = np.zeros((len(starts), len(long.completions)))
    for i, x in enumerate(starts):
        if x.finished:
            matrix[i, long.index[tuple(x.tokens)]] = 1
            continue
        for j in _sharing(long, x, len(x)):
            matrix[i, j] = np.exp(long.traces[j].logq[len(x) :].sum())
        if inside is not None:
            bad = matrix[i, ~inside].sum()
            matrix[i] *= np.where(inside, (bad ** np.arange(REDRAWS)).sum(), bad ** (REDRAWS - 1))
    return matrix


def procedure_law(
    spaces: Sequence[Space], sampler: CutSampler, has: Callable[[tuple[int, ...]], bool] | None = None
) -> FloatArray:
    """The exact law of what a staged sampler returns, over the completions of the last space.

    ``has`` says which finished completions have what is required (None: nothing is).
    """
    final = spaces[-1]
    stopped = np.zeros(len(final.completions))
    law, before = np.ones(1), None
    for space in spaces:
        inside = None if has is None else space.inside(has, last=space is final)
        law = law @ extension_matrix(before, space, inside)
        law = law @ np.linalg.matrix_power(kernel_matrix(space, sampler, inside=inside), sampler.steps)
        if not sampler.refine_finished:
            for i, x in enumerate(space.traces):
                if x.finished and (inside is None or inside[i]):
                    stopped[final.index[tuple(x.tokens)]] += law[i]
                    law[i] = 0
        before = space
    return stopped + law


def _sharing(space: Space, x: Trace, cut: int) -> list[int]:
    head = tuple(x.tokens[:cut])
    return [j for j, y in enumerate(space.completions) if len(y) > cut and y[:cut] == head]
