"""Every causal family that transformers ships: whichever way it decodes, its laws are those of a plain forward pass."""

import asyncio
import warnings

import numpy as np
import pytest
import torch

import powercut as pc
from powercut.engines.protocol import Chain
from powercut.engines.transformers import TransformersEngine
from tests.families import NOT_TINY, VOCAB, families, tiny_family

NEW = 10
TOP_K = 20
LENGTHS = (2, 7, 19, 40)
"""Of the prompts: shorter and longer than the trial at load, than windows and than chunks."""


def error_of(model, context, trace):
    """The largest difference of a trace's log p from plain forward passes, one for each token, in nats."""
    errors = []
    for i, token in enumerate(trace.tokens.tolist()):
        ids = torch.tensor(np.concatenate((context, trace.tokens[:i])))[None]
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits[0, -1].double()
        top = logits.topk(TOP_K).values
        # Two tokens at rank K may change places by rounding; the law is then that of one or the other.
        errors.append(abs(float(logits[token] - top.logsumexp(0)) - float(trace.logp[i])))
    return max(errors)


def company(engine, seed):
    """Requests of unequal length side by side, then their chains again from cuts in what they drew."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(3, VOCAB, size=n) for n in LENGTHS]
    chains = [Chain() for _ in prompts]

    async def extend(contexts, seed):
        requests = [
            pc.Request(context, NEW, top_k=TOP_K, seed=seed + i, chain=chain)
            for i, (context, chain) in enumerate(zip(contexts, chains, strict=True))
        ]
        return list(zip(contexts, await asyncio.gather(*map(engine.extend, requests)), strict=True))

    async def twice():
        first = await extend(prompts, 10)
        cuts = [np.concatenate((context, trace.tokens[: 2 * i])) for i, (context, trace) in enumerate(first)]
        return first + await extend(cuts, 20)

    return asyncio.run(twice())


def check(kind):
    model = tiny_family(kind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        engine = TransformersEngine(model, slots=len(LENGTHS), context_length=64)
    said = [str(warning.message) for warning in caught if "one request at a time" in str(warning.message)]
    assert bool(said) == (engine.cache_bytes == 0)
    worst = max(error_of(model, context, trace) for context, trace in company(engine, seed=0))
    return worst, said, engine._cache.way


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", [kind for kind in families() if kind not in NOT_TINY])
def test_a_family_has_the_laws_of_plain_forward_passes(kind):
    worst, said, way = check(kind)
    print(f"{kind}: {said[0] if said else 'in slots'}, {way}; log p at most {worst:.1e} nats off")
    assert worst < 1e-3, f"log p is {worst:.1e} nats off: {said or 'in slots'}, {way}"


def test_families_that_are_not_swept_exist():
    assert NOT_TINY.keys() <= families().keys()
