"""The bundled model by llama.cpp, straight from its GGUF file, against transformers on the same file."""

import asyncio
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import powercut as pc
from powercut.models.converting import bundled_folder
from powercut.text import TokenizerText, encode_prompt

ODD = (
    "",
    " ",
    "Hello, world!",
    "  two  spaces\n\n\tand a tab ",
    "naïve café – “quotes” …",
    "日本語のテキスト и русский",
    "😀👩‍👩‍👧 flags 🇫🇷",
    "1234567890 3.14159 1,000,000",
    "x = [\n    12,\n\t\t 7,   ½]  \u3000٣4",
    "def f(x):\n    return x ** 2  # comment",
    "<|im_start|>user\nhi<|im_end|>",
    "<|im_start|> half <|im_ and <|endoftext|>",
    "a\u0000b\u200b\ufeff\u00ad",
    "It's don't WE'LL i'd",
    "x" * 300,
)


@pytest.fixture(scope="module")
def engine():
    return pc.load("llama:smollm2", slots=4, context_length=512)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(str(bundled_folder()))


def run(work):
    return asyncio.run(work)


@pytest.mark.parametrize("text", ODD)
def test_tokens_are_those_of_the_hugging_face_tokenizer(engine, tokenizer, text):
    theirs = TokenizerText(tokenizer)
    ids = run(engine.text.encode(text))
    assert ids == run(theirs.encode(text))
    assert run(engine.text.decode(ids)) == run(theirs.decode(ids))
    for cut in range(1, min(len(ids), 12)):  # characters cut in the middle too
        assert engine.text.decode_now(ids[:cut]) == theirs.decode_now(ids[:cut])
        assert engine.text.bytes_of(ids[cut]) == theirs.bytes_of(ids[cut])
        assert engine.text.name_of(ids[cut]) == theirs.name_of(ids[cut])


@pytest.mark.parametrize(
    ("prompt", "settings"),
    [
        ("What is 2 + 2?", {}),
        ("What is 2 + 2?", {"system": "be brief"}),
        ([{"role": "user", "content": "Capital?"}, {"role": "assistant", "content": "The capital is"}], {}),
        ([{"role": "system", "content": "s"}, {"role": "user", "content": "<|im_end|> é"}], {}),
    ],
)
def test_conversations_are_those_of_the_hugging_face_template(engine, tokenizer, prompt, settings):
    by_file, by_tokenizer = [
        run(encode_prompt(text, prompt, **settings)) for text in (engine.text, TokenizerText(tokenizer))
    ]
    assert by_file == by_tokenizer


def test_ends_and_special_tokens(engine, tokenizer):
    theirs = TokenizerText(tokenizer)
    assert engine.text.special_tokens == theirs.special_tokens
    assert engine.text.turn_end == theirs.turn_end <= engine.stop_tokens
    assert engine.text.end == theirs.end


def test_log_probabilities_are_near_those_of_the_dequantised_model(engine):
    """The weights are the same; llama.cpp rounds activations to 8 bits, and its attention to 16."""
    model = AutoModelForCausalLM.from_pretrained(str(bundled_folder()), dtype=torch.float32)
    prompt = run(encode_prompt(engine.text, "Tom has 3 boxes with 4 pens in each box. How many pens does Tom have?"))

    async def several():
        asked = [pc.Request(prompt, 40, temperature=1.0, top_k=None, seed=seed) for seed in range(4)]
        return await asyncio.gather(*map(engine.extend, asked))

    differences = []
    for trace in run(several()):
        ids = torch.tensor([[*prompt, *trace.tokens.tolist()]])
        with torch.inference_mode():
            law = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1).numpy()
        differences += list(trace.logp - law[np.arange(len(trace)), trace.tokens])
        assert np.abs(trace.entropy + (np.exp(law) * law).sum(1)).max() < 0.5
    differences = np.array(differences)
    assert np.abs(differences).mean() < 0.06
    assert np.abs(differences).max() < 0.6


def test_a_stop_string_across_tokens_ends_a_completion(engine):
    sampler = pc.Standard(max_new_tokens=60, stop=("e t", "\n"))
    completions = pc.sample(engine, sampler, ["Tell me of the sea and the time."], n=4, seed=1)
    assert any(c.finished for c in completions)
    assert not any("e t" in c.text or "\n" in c.text for c in completions)


def test_a_chain_alone_repeats_in_a_fresh_engine():
    """Beside others it need not: activations are rounded to 8 bits, and how depends on what else is in the pass."""
    sampler = pc.EntropyCut(alpha=4, steps=4, blocks=2, max_new_tokens=32, look_ahead=1)
    fresh = (pc.load("llama:smollm2", slots=1, context_length=128) for _ in range(2))
    [first], [again] = (pc.sample(engine, sampler, ["What is 7 * 8 + 2?"], seed=5) for engine in fresh)
    assert first.tokens.tolist() == again.tokens.tolist()
    assert first.logp == again.logp


def test_neither_torch_nor_transformers_is_imported():
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import powercut as pc\n"
        "engine = pc.load(slots=1, context_length=128)\n"
        "[c] = pc.sample(engine, pc.LowTemperature(alpha=4, max_new_tokens=12), ['What is 2 + 2?'], seed=1)\n"
        "print(engine.describe(), repr(c.text))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600).stdout
    assert "smollm2" in out
    assert "by llama.cpp" in out
