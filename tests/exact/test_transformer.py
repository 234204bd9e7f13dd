"""The exact tests once more, end to end through the real engine: a tiny random transformer, enumerated.

Ground truth is the model's own forward pass without a cache. False-alarm probability of each test: ALARM.
"""

import functools

import numpy as np
import pytest
import torch

import powercut as pc
from powercut.engines.transformers import TransformersEngine
from powercut.study.exact import enumerate_completions, kernel_matrix, procedure_law
from tests.checks import chi_square_p, count
from tests.tiny import tiny_model

ALARM = 1e-6
PROMPT = (1, 2)
HORIZON = 3
DRAWS = 500


@functools.cache
def model():
    return tiny_model("llama", vocab_size=4, dtype=torch.float64, seed=10)


@functools.cache
def probs(context):
    with torch.inference_mode():
        logits = model()(input_ids=torch.tensor([context]), use_cache=False).logits[0, -1]
    return logits.softmax(-1).numpy()


def engine():
    return TransformersEngine(model(), stop_tokens=[0], slots=64, context_length=8)


def space(sampler, horizon=HORIZON):
    temperature = sampler.proposal_temperature
    return enumerate_completions(probs, PROMPT, horizon, temperature, sampler.top_k, sampler.min_new_tokens)


LONG = {"blocks": 1, "max_new_tokens": HORIZON, "refine_finished": True}


@pytest.mark.parametrize(
    "sampler",
    [
        pc.EntropyCut(alpha=2, steps=8, uniform_mix=0.3, top_k=None, **LONG),
        pc.UniformCut(alpha=2, steps=24, top_k=3, **LONG),
        pc.UniformCut(alpha=2, steps=24, top_k=3, min_new_tokens=2, **LONG),
        pc.EntropyCut(alpha=2, steps=24, top_k=None, min_new_tokens=1, uniform_mix=0.3, **LONG),
    ],
    ids=["entropy-full-vocabulary", "uniform-top-3", "top-3-no-early-stop", "full-vocabulary-no-early-stop"],
)
def test_chains_on_a_real_transformer_have_the_power_distribution(sampler):
    whole = space(sampler)
    pi = whole.power(2)
    matrix = kernel_matrix(whole, sampler)
    assert np.abs(pi @ matrix - pi).max() < 1e-12
    assert np.abs(procedure_law([whole], sampler) - pi).sum() / 2 < 1e-3
    completions = pc.sample(engine(), sampler, [PROMPT], n=DRAWS, seed=11)
    counts = count(whole, completions)
    assert chi_square_p(counts, pi) > ALARM
    for c in completions[:50]:  # and what the engine said of the tokens is what the model says
        want = whole.traces[whole.index[tuple(c.tokens.tolist())]]
        for name in ("logp", "logq", "entropy"):
            # A token by which a proposal left the text has the law of a row, in float32.
            np.testing.assert_allclose(getattr(c.trace, name), getattr(want, name), atol=1e-6)
    # controls: low-temperature sampling (the model itself, where hardly a completion ends early), the published step
    others = {"alpha": 2, "top_k": sampler.top_k, "min_new_tokens": sampler.min_new_tokens}
    temperature = 1.0 if sampler.min_new_tokens == 2 else None
    low = pc.LowTemperature(max_new_tokens=HORIZON, temperature=temperature, **others)
    assert chi_square_p(count(whole, pc.sample(engine(), low, [PROMPT], n=DRAWS)), pi) < ALARM
    if sampler.min_new_tokens < HORIZON - 1:  # where lengths differ
        published = pc.UniformCut(steps=16, rule="published", **others, **LONG)
        steps = pc.sample(engine(), published, [PROMPT], n=DRAWS)
        drawn = [c for c in steps if tuple(c.tokens.tolist()) in whole.index]
        assert len(drawn) < 0.9 * DRAWS or chi_square_p(count(whole, drawn), pi) < ALARM


def test_early_rejection_changes_nothing_on_a_real_transformer():
    fast, slow = (
        pc.sample(
            engine(),
            pc.UniformCut(
                alpha=4, steps=8, blocks=2, max_new_tokens=6, top_k=None, refine_finished=True, early_reject=early
            ),
            [PROMPT],
            n=60,
            seed=2,
        )
        for early in (True, False)
    )
    assert [c.tokens.tolist() for c in fast] == [c.tokens.tolist() for c in slow]
    for a, b in zip(fast, slow, strict=True):
        assert [(s.stage, s.cut, s.accepted) for s in a.steps] == [(s.stage, s.cut, s.accepted) for s in b.steps]
    assert sum(c.stats.tokens_decoded for c in fast) < sum(c.stats.tokens_decoded for c in slow)
