"""The transformers engine against the model's own forward pass, and what its cache may and may not compute again."""

import asyncio

import numpy as np
import pytest
import torch

import powercut as pc
from powercut.engines.protocol import Chain
from powercut.engines.transformers import TransformersEngine
from powercut.text import TokenizerText
from tests.tiny import KINDS, SPECIAL, tiny_folder, tiny_model

VOCAB = 40
IN_SLOTS = ("llama", "qwen2", "qwen3", "gpt2", "gpt-neox")


def make(kind="llama", *, dtype=torch.float64, **options):
    model = tiny_model(kind, vocab_size=VOCAB, dtype=dtype)
    return TransformersEngine(model, **({"slots": 3, "context_length": 96} | options))


def by_definition(model, context, trace, top_k, temperature):
    """(logp, logq, entropy) of a trace's tokens from one plain forward pass over everything."""
    ids = torch.tensor(np.concatenate((context, trace.tokens)))[None]
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits[0, len(context) - 1 : -1].double()
    rows = []
    for row, token in zip(logits, trace.tokens, strict=True):
        if top_k is not None:
            row = row.masked_fill(row < row.topk(top_k).values[-1], -torch.inf)
        logp = row.log_softmax(-1)
        logq = (row / temperature).log_softmax(-1)
        rows.append((logp[token], logq[token], torch.special.entr(logp.exp()).sum()))
    return np.array(rows).T


def extend(engine, *requests, keep_going=None):
    async def all_at_once():
        return await asyncio.gather(*(engine.extend(r, keep_going) for r in requests))

    return asyncio.run(all_at_once())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("top_k", "temperature"), [(None, 1.0), (7, 0.3)])
def test_laws_are_those_of_a_plain_forward_pass(kind, top_k, temperature):
    if kind in IN_SLOTS:
        engine = make(kind)
    else:
        with pytest.warns(UserWarning, match="one request at a time"):
            engine = make(kind)
    assert (engine.cache_bytes > 0) == (kind in IN_SLOTS)
    rng = np.random.default_rng(0)
    contexts = [rng.integers(VOCAB, size=n) for n in (1, 2, 9, 17, 5)]
    requests = [
        pc.Request(context=c, max_new_tokens=12, top_k=top_k, temperature=temperature, seed=i)
        for i, c in enumerate(contexts)
    ]
    for request, trace in zip(requests, extend(engine, *requests), strict=True):
        want = by_definition(engine.model, request.context, trace, top_k, temperature)
        tolerance = 1e-4 if kind == "mamba" else 1e-9  # Mamba's logits are float32
        np.testing.assert_allclose((trace.logp, trace.logq, trace.entropy), want, atol=tolerance)


@pytest.mark.parametrize("top_k", [5, None])
def test_chains_of_cuts_in_few_slots_see_the_right_laws(top_k):
    """Random cuts, rejections, acceptances and newcomers, more chains than slots: the cache never lies."""
    engine = make(slots=3)

    async def chain(i):
        rng, mine = np.random.default_rng(i), Chain()
        prompt = rng.integers(VOCAB, size=rng.integers(1, 30)) if i % 2 else np.arange(10)
        current = pc.Trace.empty()
        for step in range(25):
            cut = int(rng.integers(len(current) + 1))
            budget = int(rng.integers(1, 30))
            request = pc.Request(
                context=np.concatenate((prompt, current.tokens[:cut])),
                max_new_tokens=budget,
                top_k=top_k,
                temperature=0.7,
                seed=1000 * i + step,
                chain=mine,
            )
            limit = int(rng.integers(1, 40))
            shown = []
            tail = await engine.extend(
                request, lambda piece, shown=shown, limit=limit: shown.append(piece) or len(shown) < limit
            )
            want = by_definition(engine.model, request.context, tail, top_k, 0.7)
            np.testing.assert_allclose((tail.logp, tail.logq, tail.entropy), want, atol=1e-9)
            if len(shown) < limit and rng.random() < 0.6:
                current = current.splice(cut, tail)

    async def all_chains():
        await asyncio.gather(*(chain(i) for i in range(7)))

    asyncio.run(all_chains())
    assert engine.usage.reused > 0


@pytest.mark.parametrize("early_reject", [True, False])
@pytest.mark.parametrize("chains", [1, 3])
def test_no_kept_token_is_computed_twice(early_reject, chains):
    """All that is ever prefilled is each prompt once, and a stage's last token once at the start of the next."""
    engine = make(slots=3)
    sampler = pc.EntropyCut(
        alpha=2, steps=8, blocks=4, max_new_tokens=48, top_k=6, uniform_mix=0.3, early_reject=early_reject
    )
    completions = pc.sample(engine, sampler, [[1 + i, 2, 3, 4, 5] for i in range(chains)], seed=1)
    for c in completions:
        assert 0 < c.stats.acceptance < 1
        assert c.stats.tokens_prefilled == 5 + 3


def test_samples_of_one_prompt_compute_it_once():
    engine = make(slots=3)
    pc.sample(engine, pc.Standard(max_new_tokens=4, top_k=5), [list(range(30))], n=12)
    assert engine.usage.prefilled <= 29 + 3  # its last token once in each of the rows that start together


def test_memory_is_what_was_announced():
    engine = make(slots=3, dtype=torch.float32)
    per_token = 2 * 2 * 2 * 8 * 4 + VOCAB * (4 + 4)  # 2 layers of keys and values of 2 heads of 8 floats; known laws
    assert engine.cache_bytes == 2 * 3 * 96 * per_token
    assert "2 x 3 slots of 96 tokens" in engine.describe()


def test_stop_strings_end_a_trace_even_across_a_cut(tmp_path):
    engine = pc.load(str(tiny_folder(tmp_path / "tiny")), slots=2, context_length=64)
    assert isinstance(engine.text, TokenizerText)
    prompt = np.array(asyncio.run(engine.text.encode("ab")))
    (free,) = extend(engine, pc.Request(context=prompt, max_new_tokens=30, top_k=20, seed=2))
    text = engine.text.decode_now(free.tokens.tolist())
    stop = next(text[i : i + 2] for i in range(3, 20) if text.index(text[i : i + 2]) == i and text[i : i + 2].isascii())
    request = pc.Request(context=prompt, max_new_tokens=30, top_k=20, seed=2, stop=(stop,))
    (stopped,) = extend(engine, request)
    assert stopped.finished
    assert stop in engine.text.decode_now(stopped.tokens.tolist())
    assert stop not in engine.text.decode_now(stopped.tokens[:-1].tolist())
    # Cut just before the token that completes the stop: the kept part holds its beginning.
    kept = np.concatenate((prompt, free.tokens[: len(stopped) - 1]))
    for seed in range(200):
        (tail,) = extend(
            engine,
            pc.Request(kept, max_new_tokens=1, top_k=20, seed=seed, stop=(stop,), prompt_length=len(prompt)),
        )
        whole = engine.text.decode_now([*stopped.tokens[:-1].tolist(), *tail.tokens.tolist()])
        assert tail.finished == (stop in whole or tail.tokens[-1] in engine.stop_tokens)
        if stop in whole:
            break
    else:
        pytest.fail("no seed drew the token that completes the stop")
    # As part of the prompt the same beginning does not count.
    (tail,) = extend(engine, pc.Request(kept, max_new_tokens=1, top_k=20, seed=seed, stop=(stop,)))
    assert not tail.finished


def test_a_stop_that_is_a_special_token_is_its_id(tmp_path):
    """Sampled with its name as a stop, a completion ends there; an engine asked directly says what to give."""
    engine = pc.load(str(tiny_folder(tmp_path / "tiny")), slots=2, context_length=256)
    prompt = asyncio.run(engine.text.encode("ab"))
    for seed in range(20):  # of 260 tokens one is drawn every 260; the first of these to come is the stop
        (free,) = pc.sample(engine, pc.Standard(max_new_tokens=200, top_k=None), [prompt], seed=seed)
        drawn = [token for token in free.tokens.tolist() if token in (1, 2, 3)]
        if drawn:
            break
    sampler = pc.Standard(max_new_tokens=200, top_k=None, stop=(SPECIAL[drawn[0]],))
    (stopped,) = pc.sample(engine, sampler, [prompt], seed=seed)
    assert stopped.finished
    assert stopped.tokens.tolist() == free.tokens.tolist()[: free.tokens.tolist().index(drawn[0]) + 1]
    for stop in (SPECIAL[1], f"x{SPECIAL[1]}"):
        with pytest.raises(pc.SettingError, match="is a special token, which is no part of the text; give its id, 1"):
            extend(engine, pc.Request(prompt, 5, stop=(stop,)))
    with pytest.raises(pc.SettingError, match="is a special token"):
        pc.sample(engine, pc.Standard(max_new_tokens=5, stop=(f"x{SPECIAL[1]}",)), [prompt])


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (pc.Request(context=[1] * 90, max_new_tokens=10), ["context_length=96", "max_new_tokens=10", "90 tokens"]),
        (pc.Request(context=[1], max_new_tokens=1, top_k=41), ["top_k=41", "40"]),
        (pc.Request(context=[1], max_new_tokens=1, stop=("x",)), ["stop", "tokenizer"]),
        (pc.Request(context=[1, 40], max_new_tokens=1), ["token ids", "39"]),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(request_, words):
    engine = make()
    with pytest.raises(pc.SettingError) as error:
        extend(engine, request_)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)
    assert engine.usage.decoded == 0


@pytest.mark.parametrize("options", [{"slots": 0}, {"context_length": 1}, {"context_length": 100_000}])
def test_sizes_that_make_no_sense_are_refused(options):
    with pytest.raises(pc.SettingError):
        make(**options)


def test_a_cache_that_no_memory_is_left_for():
    model = tiny_model("llama", vocab_size=VOCAB, context=2**40)
    with pytest.raises(pc.SettingError, match=r"no memory for a cache .*lower slots or context_length"):
        TransformersEngine(model, slots=2**8, context_length=2**40)
