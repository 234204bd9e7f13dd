"""Exact laws through the llama engine: a random Llama in float32, enumerated by its own forward pass in torch.

False-alarm probability of each test: ALARM.
"""

import asyncio
import functools

import numpy as np
import pytest
import torch

import powercut as pc
from powercut.study.exact import enumerate_completions, kernel_matrix
from tests.checks import chi_square_p, count
from tests.llama.test_engine_contract import EXACT
from tests.llama.tiny_gguf import write_gguf
from tests.tiny import tiny_model

ALARM = 1e-6
PROMPT = (1, 2)
HORIZON = 3
DRAWS = 300
CUT = {"alpha": 2, "steps": 24, "blocks": 1, "max_new_tokens": HORIZON, "refine_finished": True}


@functools.cache
def model(vocab_size=4):
    return tiny_model("llama", vocab_size=vocab_size, dtype=torch.float64, seed=10)


@functools.cache
def probs(context):
    with torch.inference_mode():
        logits = model()(input_ids=torch.tensor([context]), use_cache=False).logits[0, -1]
    return logits.softmax(-1).numpy()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return {size: write_gguf(folder / f"{size}.gguf", model(size)) for size in (4, 20)}


@pytest.fixture
def load(files):
    return lambda vocab_size=4, **options: pc.load(str(files[vocab_size]), **{"slots": 32, **options}, **EXACT)


def space(sampler):
    temperature = sampler.proposal_temperature
    return enumerate_completions(probs, PROMPT, HORIZON, temperature, sampler.top_k, sampler.min_new_tokens)


@pytest.mark.parametrize(
    "sampler",
    [
        pc.EntropyCut(top_k=None, uniform_mix=0.3, **CUT),
        pc.UniformCut(top_k=3, **CUT),
        pc.UniformCut(top_k=3, min_new_tokens=2, **CUT),
        pc.UniformCut(top_k=3, skip_repeats=False, **CUT),
    ],
    ids=["entropy-full-vocabulary", "uniform-top-3", "no-early-stop", "repeats-decoded"],
)
def test_chains_have_the_power_distribution(load, sampler):
    whole = space(sampler)
    pi = whole.power(2)
    matrix = kernel_matrix(whole, sampler)
    assert np.abs(pi @ matrix - pi).max() < 1e-12
    completions = pc.sample(load(context_length=8), sampler, [PROMPT], n=DRAWS, seed=11)
    counts = count(whole, completions)
    assert chi_square_p(counts, pi) > ALARM
    for c in completions[:50]:  # and what the engine said of the tokens is what the model says
        want = whole.traces[whole.index[tuple(c.tokens.tolist())]]
        for name in ("logp", "logq", "entropy"):
            np.testing.assert_allclose(getattr(c.trace, name), getattr(want, name), atol=1e-4)
    temperature = 1.0 if sampler.min_new_tokens else None
    low = pc.LowTemperature(
        alpha=2,
        max_new_tokens=HORIZON,
        top_k=sampler.top_k,
        min_new_tokens=sampler.min_new_tokens,
        temperature=temperature,
    )
    assert chi_square_p(count(whole, pc.sample(load(), low, [PROMPT], n=DRAWS)), pi) < ALARM  # the test has power


def chains(engine, **settings):
    shared = {"alpha": 3, "steps": 9, "blocks": 3, "max_new_tokens": 24, "top_k": 5, "uniform_mix": 0.2}
    sampler = pc.EntropyCut(refine_finished=True, **shared, **settings)
    completions = pc.sample(engine, sampler, [PROMPT], n=12, seed=3)
    paths = [[(s.stage, s.cut, s.accepted) for s in c.steps] for c in completions]
    return [c.tokens.tolist() for c in completions], paths, sum(c.stats.tokens_decoded for c in completions)


def test_early_rejection_look_ahead_and_few_slots_change_no_chain(load):
    tokens, paths, decoded = chains(load(20, slots=12), early_reject=False, skip_repeats=False)
    for slots, settings in ((12, {}), (12, {"look_ahead": "auto"}), (12, {"look_ahead": 4}), (2, {}), (1, {})):
        got = chains(load(20, slots=slots, context_length=32), skip_repeats=False, **settings)
        assert got[:2] == (tokens, paths)
        if settings == {}:
            assert got[2] < decoded


def test_skipped_repeats_are_the_same_with_look_ahead(load):
    tokens, paths, decoded = chains(load(20, slots=12))
    assert chains(load(20, slots=12, context_length=32), look_ahead=4)[:2] == (tokens, paths)
    assert decoded < chains(load(20, slots=12), skip_repeats=False)[2]


def teacher_forced(tokens):
    with torch.inference_mode():
        logits = model(20)(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    return logits.log_softmax(-1).numpy()


def test_more_chains_than_slots_and_cells_forget_what_is_old_and_stay_right(load):
    """Prompts that share nothing; the cells hold two of them, and each chain comes back to its own."""
    engine = load(20, slots=2, context_length=160)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(1, 20, size=110) for _ in range(7)]

    async def rounds():
        return [
            await asyncio.gather(
                *(engine.extend(pc.Request(np.append(p, turn), 40, top_k=20, seed=turn, stop=())) for p in prompts)
            )
            for turn in range(1, 4)
        ]

    for turn, traces in enumerate(asyncio.run(rounds()), 1):
        for prompt, trace in zip(prompts, traces, strict=True):
            line = [*prompt.tolist(), turn, *trace.tokens.tolist()]
            law = teacher_forced(line)
            at = np.arange(len(prompt), len(line) - 1)
            np.testing.assert_allclose(trace.logp, law[at, line[len(prompt) + 1 :]], atol=1e-4)
    assert engine.usage.prefilled > 7 * 110  # something was forgotten
    assert engine.idle == 2


def test_a_full_context_is_used_to_its_last_token(load):
    engine = load(20, slots=2, context_length=64)
    context = np.random.default_rng(1).integers(1, 20, size=40)

    async def both():
        return await asyncio.gather(*(engine.extend(pc.Request(context[i:], 24 + i, seed=i)) for i in (0, 1)))

    for trace in asyncio.run(both()):
        assert trace.finished or len(trace) >= 24
    with pytest.raises(pc.SettingError, match="context_length=64"):
        engine.check(pc.Request(context, 25))


def test_a_chain_prefills_its_prompt_once(load):
    engine = load(20, slots=4)
    sampler = pc.UniformCut(alpha=2, steps=10, blocks=4, max_new_tokens=40, top_k=5, refine_finished=True)
    pc.sample(engine, sampler, [list(range(1, 19))] * 2, n=2, seed=1)
    # Of four chains with one prompt the first computes it. The others feed its last token, and some feed the one that
    # they drew last, or knew without drawing it; twice computed it would be 18 + 17 at the least.
    assert engine.usage.prefilled < 18 + 17
    assert engine.usage.prefilled < 0.01 * engine.usage.reused


@pytest.mark.parametrize("top_k", [5, None])
def test_logits_that_are_no_numbers_fail_their_request_alone(tmp_path, top_k):
    """With flash attention, which passes over what a mask hides; without it a NaN there reaches everybody."""
    poisoned = tiny_model("llama", vocab_size=20, seed=10)
    with torch.no_grad():
        poisoned.get_input_embeddings().weight[18] = torch.nan
    engine = pc.load(str(write_gguf(tmp_path / "nan.gguf", poisoned)), slots=3, context_length=64, flash_attn_type=1)

    async def both():
        bad, good = pc.Request([1, 18], 3, top_k=top_k), pc.Request([1, 2], 3, top_k=top_k)
        return await asyncio.gather(engine.extend(bad), engine.extend(good), return_exceptions=True)

    for _ in range(3):
        error, trace = asyncio.run(both())
        assert isinstance(error, pc.EngineError)
        assert "NaN" in str(error)
        assert np.isfinite(trace.entropy).all()
