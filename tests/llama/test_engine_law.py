"""Exact laws through the llama engine: random models in float32, enumerated by their own forward passes in torch.

False-alarm probability of each test: ALARM.
"""

import asyncio
import copy
import functools

import numpy as np
import pytest
import torch

import powercut as pc
from powercut.engines.protocol import Chain
from powercut.study.exact import enumerate_completions, kernel_matrix
from tests.checks import ALARM, chi_square_p, count, draws_to_tell
from tests.llama import kinds

PROMPT = (1, 2)
HORIZON = 3
CUT = {"alpha": 2, "steps": 24, "blocks": 1, "max_new_tokens": HORIZON, "refine_finished": True}


@functools.cache
def probs(kind, context):
    with torch.inference_mode():
        logits = kinds.model(kind, 4)(input_ids=torch.tensor([context]), use_cache=False).logits[0, -1]
    return logits.softmax(-1, dtype=torch.float64).numpy()


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")

    def load(kind="full", vocab_size=20, slots=32, **options):
        return kinds.load(folder, kind, kinds.model(kind, vocab_size), slots=slots, **options)

    return load


def space(kind, sampler):
    temperature = sampler.proposal_temperature
    law = functools.partial(probs, kind)
    return enumerate_completions(law, PROMPT, HORIZON, temperature, sampler.top_k, sampler.min_new_tokens)


@pytest.mark.parametrize(
    ("kind", "sampler"),
    [
        ("full", pc.EntropyCut(top_k=None, uniform_mix=0.3, **CUT)),
        ("full", pc.UniformCut(top_k=3, **CUT)),
        ("full", pc.UniformCut(top_k=3, min_new_tokens=2, **CUT)),
        ("full", pc.UniformCut(top_k=3, skip_repeats=False, **CUT)),
        ("recurrent", pc.EntropyCut(top_k=None, uniform_mix=0.3, **CUT | {"steps": 6})),
    ],
    ids=["entropy-full-vocabulary", "uniform-top-3", "no-early-stop", "repeats-decoded", "recurrent"],
)
def test_chains_have_the_power_distribution(load, kind, sampler):
    whole = space(kind, sampler)
    pi = whole.power(2)
    matrix = kernel_matrix(whole, sampler)
    assert np.abs(pi @ matrix - pi).max() < 1e-12
    low = np.exp([trace.logq.sum() for trace in whole.traces])
    law = low @ np.linalg.matrix_power(matrix, sampler.steps)
    # Enough to tell it from what a low temperature alone gives, which with min_new_tokens is all but the same.
    draws = draws_to_tell(law, whole.power(1) if sampler.min_new_tokens else low)
    completions = pc.sample(load(kind, 4, context_length=8), sampler, [PROMPT], n=draws, seed=11)
    assert chi_square_p(count(whole, completions), law) > ALARM
    for c in completions[:50]:  # and what the engine said of the tokens is what the model says
        want = whole.traces[whole.index[tuple(c.tokens.tolist())]]
        for name in ("logp", "logq", "entropy"):
            np.testing.assert_allclose(getattr(c.trace, name), getattr(want, name), atol=1e-4)


def chains(engine, **settings):
    shared = {"alpha": 3, "steps": 9, "blocks": 3, "max_new_tokens": 24, "top_k": 5, "uniform_mix": 0.2}
    sampler = pc.EntropyCut(refine_finished=True, **shared, **settings)
    completions = pc.sample(engine, sampler, [PROMPT], n=12, seed=3)
    paths = [[(s.stage, s.cut, s.accepted) for s in c.steps] for c in completions]
    return [c.tokens.tolist() for c in completions], paths, sum(c.stats.tokens_decoded for c in completions)


def test_early_rejection_look_ahead_and_few_slots_change_no_chain(load):
    tokens, paths, decoded = chains(load(slots=12), early_reject=False, skip_repeats=False)
    for slots, settings in ((12, {}), (12, {"look_ahead": "auto"}), (12, {"look_ahead": 4}), (2, {}), (1, {})):
        got = chains(load(slots=slots, context_length=32), skip_repeats=False, **settings)
        assert got[:2] == (tokens, paths)
        if settings == {}:
            assert got[2] < decoded


@pytest.mark.parametrize("kind", ["window", "recurrent"])
def test_few_slots_change_no_chain_of_another_kind(load, kind):
    assert chains(load(kind, slots=12), look_ahead=1)[:2] == chains(load(kind, slots=3), look_ahead=2)[:2]


def test_skipped_repeats_are_the_same_with_look_ahead(load):
    tokens, paths, decoded = chains(load(slots=12))
    assert chains(load(slots=12, context_length=32), look_ahead=4)[:2] == (tokens, paths)
    assert decoded < chains(load(slots=12), skip_repeats=False)[2]


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_more_chains_than_slots_and_cells_forget_what_is_old_and_stay_right(load, kind):
    """Prompts that share nothing; the cells hold two of them, and each chain comes back to its own."""
    engine = load(kind, slots=2, context_length=160)
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
            np.testing.assert_allclose(trace.logp, teacher_forced(kind, [*prompt, turn], trace), atol=1e-4)
    assert engine.usage.prefilled > 7 * 110  # something was forgotten
    assert engine.idle == 2


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_chains_that_go_back_to_where_they_were_cut_stay_right(load, kind):
    """Completions many times as long as a window, of chains that keep what they had or take what is new, by turns."""
    engine = load(kind, slots=4, context_length=160)
    rng = np.random.default_rng(1)
    prompts = [rng.integers(1, 20, size=30) for _ in range(6)]

    async def one(prompt, number, dice):
        with Chain() as chain:
            current = []
            for turn in range(12):
                context = np.array([*prompt, *current[: dice.integers(len(current) + 1)]])
                seed = 100 * turn + number
                asked = pc.Request(context, 150 - len(context), top_k=20, seed=seed, stop=(), chain=chain)
                left = int(dice.integers(1, 300))  # its proposal is given up after so many tokens, if it has as many

                def keep_going(piece):
                    nonlocal left
                    left -= len(piece)
                    return left > 0

                trace = await engine.extend(asked, keep_going)
                wanted = teacher_forced(kind, context, trace)
                np.testing.assert_allclose(trace.logp, wanted, atol=1e-4, err_msg=f"turn {turn} of chain {number}")
                if turn == 0 or dice.random() < 0.4:
                    current = [*context[len(prompt) :], *trace.tokens]

    async def together():
        await asyncio.gather(*(one(p, i, np.random.default_rng(i)) for i, p in enumerate(prompts)))

    asyncio.run(together())
    assert engine.idle == 4


def teacher_forced(kind, context, trace):
    """Log p ``[n]`` of the tokens of a trace, by one forward pass over all."""
    line = torch.tensor([[*context, *trace.tokens.tolist()]])
    with torch.inference_mode():
        logits = kinds.model(kind, 20)(input_ids=line, use_cache=False).logits[0, len(context) - 1 : -1]
    law = logits.log_softmax(-1, dtype=torch.float64).numpy()
    return law[np.arange(len(trace)), trace.tokens]


def test_a_full_context_is_used_to_its_last_token(load):
    engine = load(slots=2, context_length=64)
    context = np.random.default_rng(1).integers(1, 20, size=40)

    async def both():
        return await asyncio.gather(*(engine.extend(pc.Request(context[i:], 24 + i, seed=i)) for i in (0, 1)))

    for trace in asyncio.run(both()):
        assert trace.finished or len(trace) >= 24
    with pytest.raises(pc.SettingError, match="context_length=64"):
        engine.check(pc.Request(context, 25))


def test_a_chain_prefills_its_prompt_once(load):
    engine = load(slots=4)
    sampler = pc.UniformCut(alpha=2, steps=10, blocks=4, max_new_tokens=40, top_k=5, refine_finished=True)
    pc.sample(engine, sampler, [list(range(1, 19))] * 2, n=2, seed=1)
    # Of four chains with one prompt the first computes it. The others feed its last token, and some feed the one that
    # they drew last, or knew without drawing it; twice computed it would be 18 + 17 at the least.
    assert engine.usage.prefilled < 18 + 17
    assert engine.usage.prefilled < 0.01 * engine.usage.reused


@pytest.mark.parametrize("top_k", [5, None])
@pytest.mark.parametrize("kind", ["full", "recurrent", "hybrid"])
def test_logits_that_are_no_numbers_fail_their_request_alone(tmp_path, kind, top_k):
    """With flash attention, which passes over what a mask hides; without it a NaN there reaches everybody."""
    poisoned = copy.deepcopy(kinds.model(kind, 20))
    with torch.no_grad():
        poisoned.get_input_embeddings().weight[18] = torch.nan
    engine = kinds.load(tmp_path, kind, poisoned, slots=3, context_length=64, flash_attn_type=1)

    async def both():
        bad, good = pc.Request([1, 2, 18], 3, top_k=top_k), pc.Request([1, 2, 3, 4], 1, top_k=top_k)
        outcomes = await asyncio.gather(engine.extend(bad), engine.extend(good), return_exceptions=True)
        return *outcomes, *await asyncio.gather(*(engine.extend(good) for _ in range(3)))

    for _ in range(3):
        error, *traces = asyncio.run(both())
        assert isinstance(error, pc.EngineError)
        assert "NaN" in str(error)
        for trace in traces:
            np.testing.assert_allclose(trace.entropy, traces[0].entropy, atol=1e-3)  # flash attention rounds
