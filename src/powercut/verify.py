"""Is the law right on this model and engine? Checks that a user can run, each with a stated chance of a false alarm.

What an engine returns is tested against itself: log-probabilities and entropies are functions of the context alone,
whatever the temperature, the company and the cache; tokens are drawn from the law that comes with them; and on short
completions the chain has the law of rejection sampling, which is exact.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from powercut.engines.protocol import Chain, Engine, Request
from powercut.errors import EngineError
from powercut.run import asample
from powercut.samplers import EntropyCut, Rejection, Sampler
from powercut.trace import FloatArray, IntArray, Trace

ALARM = 1e-4
"""The chance that a right engine fails one of the checks that draw at random."""

SIMULATIONS = 200_000
"""Of the counts of a right engine, from which p-values are taken."""

Tokens = tuple[int, ...]

SHORT: dict[str, Any] = {"alpha": 1.5, "top_k": 3, "max_new_tokens": 3}
"""Of the short completions: few enough of them that each is drawn often."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what it looks at, whether the engine passed, and the figures."""

    name: str
    passed: bool
    detail: str


async def verify(
    engine: Engine,
    prompt: IntArray,
    *,
    top_k: int | None = 50,
    draws: int = 400,
    seed: int = 0,
    tolerance: float = 0.02,
) -> AsyncIterator[Check]:
    """Check ``engine`` on ``prompt`` (token ids ``[m]``), and yield each check as it is done: minutes in all.

    ``tolerance``, in nats, is how far rounding may move a log-probability or an entropy: 0.02 suits float32 and a
    quiet bfloat16. The first token is drawn ``draws`` times, and half as many short completions by two samplers.
    Raises SettingError if the prompt or ``top_k`` does not fit; what the engine itself raises is a failed check.
    """
    asked = Request(prompt, 24, 1.0, top_k, seed=seed, prompt_length=len(prompt))
    colder = replace(asked, temperature=0.5)
    engine.check(asked)
    checks: dict[str, Callable[[], Awaitable[tuple[bool, str]]]] = {
        "log-probabilities are raw, whatever the temperature": lambda: _raw(engine, asked, tolerance),
        "a request is the same alone and in unequal company": lambda: _company(engine, asked, tolerance),
        "a context is the same drawn, computed and cached": lambda: _contexts(engine, asked, tolerance),
        "first tokens have their law at temperature 1": lambda: _first_tokens(engine, asked, draws),
        "first tokens have their law at temperature 0.5": lambda: _first_tokens(engine, colder, draws),
        "a stop that comes too early is barred": lambda: _early_stop(engine, asked, draws, tolerance),
        "an abort frees the engine": lambda: _abort(engine, asked),
        "Entropy-Cut has the law of rejection sampling": lambda: _short(engine, prompt, draws // 2, seed),
    }
    for name, check in checks.items():
        try:
            passed, detail = await check()
        except EngineError as error:
            passed, detail = False, str(error)
        yield Check(name, passed, detail)


async def _raw(engine: Engine, asked: Request, tolerance: float) -> tuple[bool, str]:
    traces = [await engine.extend(replace(asked, max_new_tokens=1, temperature=t)) for t in (1.0, 0.5, 0.25)]
    spread = float(np.ptp([trace.entropy[0] for trace in traces]))
    return spread <= tolerance, f"entropy of the first token differs by {spread:.1e} nats between temperatures"


async def _company(engine: Engine, asked: Request, tolerance: float) -> tuple[bool, str]:
    size = len(asked.context)
    others = [
        replace(asked, context=np.resize(asked.context, n), prompt_length=None, seed=asked.seed + n)
        for n in (1, max(1, size // 2), 2 * size + 5)
    ]
    alone = [await engine.extend(request) for request in (asked, *others)]
    together = await asyncio.gather(*(engine.extend(request) for request in (asked, *others)))
    apart = max(_distance(a, b) for a, b in zip(alone, together, strict=True))
    lengths = ", ".join(str(len(request.context)) for request in (asked, *others))
    return apart <= tolerance, f"log p and entropies differ by {apart:.1e} nats at most (contexts of {lengths} tokens)"


async def _contexts(engine: Engine, asked: Request, tolerance: float) -> tuple[bool, str]:
    with Chain() as chain:
        drawn = await engine.extend(replace(asked, chain=chain))
        apart = 0.0
        for at in sorted({0, 1, len(drawn) // 2, len(drawn) - 1}):
            context = np.concatenate((asked.context, drawn.tokens[:at]))
            for owner in (chain, None):  # with the cache that the chain has, and as a stranger
                again = await engine.extend(replace(asked, context=context, max_new_tokens=1, chain=owner))
                apart = max(apart, abs(float(again.entropy[0] - drawn.entropy[at])))
    return apart <= tolerance, f"entropies differ by {apart:.1e} nats at most"


async def _first_tokens(engine: Engine, asked: Request, draws: int) -> tuple[bool, str]:
    first = replace(asked, max_new_tokens=1)
    traces = await asyncio.gather(*(engine.extend(replace(first, seed=seed)) for seed in _seeds(asked.seed, draws)))
    law = {int(trace.tokens[0]): float(np.exp(trace.logq[0])) for trace in traces}
    # Cells are chosen by the law, not by the counts: one of so much mass that was never drawn would have been missed
    # with a chance below e^-10.
    cells = [token for token, p in law.items() if p * draws >= 10]
    counts = Counter(int(trace.tokens[0]) for trace in traces)
    observed = np.array([counts[token] for token in cells])
    p = chance(np.append(observed, draws - observed.sum()), np.array([law[token] for token in cells]), asked.seed)
    return p > ALARM, f"chi-square of {draws} draws in {len(cells) + 1} cells: p = {p:.2g}, false alarm {ALARM:g}"


async def _early_stop(engine: Engine, asked: Request, draws: int, tolerance: float) -> tuple[bool, str]:
    """The likeliest first token is made a stop, where it is too early for one: the others keep their proportions."""
    if asked.top_k == 1:
        return True, "with top_k=1 nothing is left to draw"
    first = replace(asked, max_new_tokens=1)
    plain, several = {}, _seeds(asked.seed, draws)
    for trace in await asyncio.gather(*(engine.extend(replace(first, seed=seed)) for seed in several)):
        plain[int(trace.tokens[0])] = float(trace.logp[0])
    stop = max(plain, key=lambda token: plain[token])
    barred = replace(first, stop=(stop,), min_new_tokens=1)
    traces = await asyncio.gather(*(engine.extend(replace(barred, seed=seed)) for seed in several))
    lifted = [float(trace.logp[0]) - plain[t] for trace in traces if (t := int(trace.tokens[0])) in plain]
    apart = float(np.ptp(lifted)) if lifted else 0.0
    right, detail = await _first_tokens(engine, barred, draws)
    unbarred = any(int(trace.tokens[0]) == stop for trace in traces)
    return right and not unbarred and apart <= tolerance, f"{detail}; their proportions differ by {apart:.1e} nats"


async def _abort(engine: Engine, asked: Request) -> tuple[bool, str]:
    before = engine.idle
    cut = await engine.extend(asked, lambda piece: False)
    for _ in range(200):
        if engine.idle >= before:
            break
        await asyncio.sleep(0.05)
    whole = await engine.extend(asked)
    return engine.idle >= before and len(whole) >= len(cut), f"{len(cut)} of {len(whole)} tokens were decoded"


async def _short(engine: Engine, prompt: IntArray, draws: int, seed: int) -> tuple[bool, str]:
    chain = EntropyCut(**SHORT, blocks=1, steps=16, uniform_mix=0.5, refine_finished=True)
    exact, cuts = [await _counted(engine, sampler, prompt, draws, seed) for sampler in (Rejection(**SHORT), chain)]
    p = same_law(exact, cuts, seed)
    kinds = f"{len(exact)} and {len(cuts)} different completions among {draws} each"
    return p > ALARM, f"{kinds}: p = {p:.2g}, false alarm {ALARM:g}"


async def _counted(engine: Engine, sampler: Sampler, prompt: IntArray, draws: int, seed: int) -> Counter[Tokens]:
    completions = await asample(engine, sampler, [prompt.tolist()], n=draws, seed=seed)
    return Counter(tuple(completion.tokens.tolist()) for completion in completions)


def chance(counts: IntArray, law: FloatArray, seed: int) -> float:
    """p-value of Pearson's chi-square, by simulation.

    ``counts`` ``[k + 1]`` are those of cells with the probabilities ``law`` ``[k]``, and of all the rest.
    """
    draws, rest = int(counts.sum()), max(0.0, 1 - float(law.sum()))
    if rest * draws < 1e-6:
        if counts[-1]:
            return 0.0
        counts, probs = counts[:-1], law / law.sum()
    else:
        probs = np.append(law, rest) / (float(law.sum()) + rest)
    if len(probs) < 2:
        return 1.0
    simulated = np.random.default_rng(seed).multinomial(draws, probs, SIMULATIONS)
    expected = draws * probs
    statistic = ((simulated - expected) ** 2 / expected).sum(axis=1)
    return (1 + int((statistic >= ((counts - expected) ** 2 / expected).sum()).sum())) / (1 + SIMULATIONS)


def same_law(a: Counter[Tokens], b: Counter[Tokens], seed: int) -> float:
    """p-value of the two-sample chi-square, by shuffling who drew what; outcomes drawn less than 10 times are one."""
    whole = a + b
    cells = [x for x, n in whole.items() if n >= 10]
    place = {x: i for i, x in enumerate(cells)}
    sizes = np.array([*(whole[x] for x in cells), sum(n for x, n in whole.items() if x not in place)])
    ours = np.array([*(a[x] for x in cells), sum(n for x, n in a.items() if x not in place)])
    ours, sizes = ours[sizes > 0], sizes[sizes > 0]
    if len(sizes) < 2:
        return 1.0
    total = int(ours.sum())
    expected = sizes * total / sizes.sum()
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(sizes, total, SIMULATIONS, method="marginals")
    statistic = ((drawn - expected) ** 2 / expected).sum(axis=1)
    return (1 + int((statistic >= ((ours - expected) ** 2 / expected).sum() - 1e-9).sum())) / (1 + SIMULATIONS)


def _distance(a: Trace, b: Trace) -> float:
    """The largest difference, in nats, between two decodes of one request, up to where their tokens part."""
    n = a.differs_at(b)
    same = len(a) if n is None else n
    entropies = min(same + 1, len(a), len(b))  # the next one is of the same context still
    gaps = (a.logp[:same] - b.logp[:same], a.entropy[:entropies] - b.entropy[:entropies])
    return float(np.abs(np.concatenate(gaps)).max())


def _seeds(seed: int, count: int) -> list[int]:
    return [int(state) >> 1 for state in np.random.SeedSequence(seed).generate_state(count, np.uint64)]
