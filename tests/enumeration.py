"""Ground truth for the exact tests: every completion of a small model, written out by the definitions alone.

Nothing here calls the code under test except where a function says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from powercut import Trace
from powercut.target import log_ratio

EOS = 0
NextTokenProbs = Callable[[tuple[int, ...]], np.ndarray]


def random_table(seed: int, vocab: int = 3, zeros: bool = False) -> NextTokenProbs:
    """A model whose law differs at every context, sharp or flat, with token 0 (the stop) common."""
    laws: dict[tuple[int, ...], np.ndarray] = {}

    def probs(context):
        if context not in laws:
            rng = np.random.default_rng([seed, vocab, *(t + 1 for t in context)])
            weights = rng.dirichlet(np.full(vocab, rng.choice([0.3, 1.0, 5.0]))) + 1e-3
            if zeros and rng.random() < 0.3:
                weights[rng.integers(1, vocab)] = 0.0
            laws[context] = weights / weights.sum()
        return laws[context]

    return probs


@dataclass(frozen=True)
class Space:
    """All completions at one horizon, with what the definitions say of them."""

    horizon: int
    completions: list[tuple[int, ...]]
    traces: list[Trace]  # tokens, logp, logq, entropy by the definitions
    index: dict[tuple[int, ...], int]

    @property
    def logp(self) -> np.ndarray:
        return np.array([t.logp.sum() for t in self.traces])

    def power(self, alpha: float) -> np.ndarray:
        """pi(x) ∝ p(x)^alpha."""
        weights = np.exp(alpha * (self.logp - self.logp.max()))
        return weights / weights.sum()


def enumerate_completions(
    probs: NextTokenProbs, prompt: tuple[int, ...], horizon: int, temperature: float, top_k: int | None = None
) -> Space:
    """Finished completions of at most ``horizon`` tokens and unfinished ones of exactly that many; p > 0 only."""
    traces: dict[tuple[int, ...], Trace] = {}

    def grow(tokens, logp, logq, entropy):
        if tokens and (tokens[-1] == EOS or len(tokens) == horizon):
            traces[tokens] = Trace(tokens, logp, logq, entropy, finished=tokens[-1] == EOS)
            return
        p = np.array(probs(prompt + tokens), dtype=float)
        if top_k is not None:
            p[np.argsort(-p, kind="stable")[top_k:]] = 0
            p /= p.sum()
        support = np.flatnonzero(p)
        q = np.where(p > 0, p ** (1 / temperature), 0)
        q /= q.sum()
        h = -sum(p[v] * np.log(p[v]) for v in support)
        for v in support:
            grow((*tokens, int(v)), (*logp, np.log(p[v])), (*logq, np.log(q[v])), (*entropy, h))

    grow((), (), (), ())
    completions = list(traces)
    return Space(horizon, completions, list(traces.values()), {x: i for i, x in enumerate(completions)})


def kappa(trace: Trace, beta: float | None, mix: float) -> np.ndarray:
    """The cut law by its definition; beta None is the uniform law."""
    n = len(trace)
    previous = [0.0, *trace.entropy[:-1]]
    w = [1.0 if beta is None else max(0.0, h - g) ** beta for h, g in zip(trace.entropy, previous, strict=True)]
    total = sum(w)
    return np.array([(1 - mix) * (wc / total) + mix / n if total else 1 / n for wc in w])


def kernel_matrix(space: Space, sampler, log_accept=None) -> np.ndarray:
    """The transition matrix of one step at this horizon: the sampler's own cut law and acceptance ratio, enumerated.

    ``log_accept(x, y, cut)`` replaces the sampler's ratio.
    """
    law, target = sampler.cut_law, sampler.target
    if log_accept is None:

        def log_accept(x, y, cut):
            return log_ratio(target, law, x, y, cut)

    size = len(space.completions)
    matrix = np.zeros((size, size))
    for i, x in enumerate(space.traces):
        cuts = law.probs(x.entropy)
        for cut, prob in enumerate(cuts):
            if prob == 0:
                continue
            for j in _sharing(space, x, cut):
                y = space.traces[j]
                q = np.exp(y.logq[cut:].sum())
                accept = np.exp(min(0.0, log_accept(x, y, cut)))
                matrix[i, j] += prob * q * accept
        matrix[i, i] += 1 - matrix[i].sum()
    return matrix


def extension_matrix(short: Space | None, long: Space) -> np.ndarray:
    """From the completions at one horizon (None: the empty one) to those at the next, by the proposal."""
    starts = [Trace.empty()] if short is None else short.traces
    matrix = np.zeros((len(starts), len(long.completions)))
    for i, x in enumerate(starts):
        if x.finished:
            matrix[i, long.index[tuple(x.tokens)]] = 1
            continue
        for j in _sharing(long, x, len(x)):
            matrix[i, j] = np.exp(long.traces[j].logq[len(x) :].sum())
    return matrix


def procedure_law(spaces: list[Space], sampler) -> np.ndarray:
    """The exact law of what a staged sampler returns, over the completions of the last space."""
    final = spaces[-1]
    stopped = np.zeros(len(final.completions))
    law, before = np.ones(1), None
    for space in spaces:
        law = law @ extension_matrix(before, space)
        law = law @ np.linalg.matrix_power(kernel_matrix(space, sampler), sampler.steps)
        if not sampler.refine_finished:
            for i, x in enumerate(space.traces):
                if x.finished:
                    stopped[final.index[tuple(x.tokens)]] += law[i]
                    law[i] = 0
        before = space
    return stopped + law


def _sharing(space: Space, x: Trace, cut: int) -> list[int]:
    head = tuple(x.tokens[:cut])
    return [j for j, y in enumerate(space.completions) if len(y) > cut and y[:cut] == head]


def chi_square_p(counts: np.ndarray, law: np.ndarray) -> float:
    """p-value of Pearson's chi-square test; cells expected below 10 are pooled; a count where law is 0 gives 0."""
    n = counts.sum()
    if counts[law <= 0].any():
        return 0.0
    expected = n * law
    big = expected >= 10
    observed = np.append(counts[big], counts[~big].sum())
    wanted = np.append(expected[big], expected[~big].sum())
    keep = wanted > 0
    observed, wanted = observed[keep], wanted[keep]
    if len(observed) < 2:
        return 1.0
    return float(stats.chi2.sf(((observed - wanted) ** 2 / wanted).sum(), len(observed) - 1))


def evidence(values: np.ndarray, mean: float, most: float = 1.0) -> float:
    """Evidence against a mean of independent values from 0 to ``most``: 1/a or more with probability a at most.

    What a gambler who began with 1 owns after betting a share of it on each value; the average of several, who bet that
    values are above or below ``mean`` (Waudby-Smith and Ramdas 2024). With that mean the game is fair and no value
    ruins them, so by Markov's inequality the bound holds whatever the law and however few the values.
    """
    shares = np.array([0.9, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01])
    bets = np.concatenate((shares / mean, -shares / (most - mean)))
    assert (values >= 0).all()
    assert (values <= most * (1 + 1e-12)).all()
    with np.errstate(over="ignore"):
        return float(np.exp(np.log1p(bets[:, None] * (values - mean)).sum(axis=1)).mean())


def count(space: Space, completions) -> np.ndarray:
    """How often each completion of the space was drawn."""
    counts = np.zeros(len(space.completions))
    for x in completions:
        counts[space.index[tuple(int(t) for t in x.tokens)]] += 1
    return counts


def grid(**options):
    """Every combination of the options, as dicts."""
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
