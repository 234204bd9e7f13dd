"""Text of a GGUF file on the transformers engine: it is cut as llama.cpp cuts it, by the rule that the file names."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

import powercut as pc
from powercut.models.converting import read_gguf
from powercut.models.gguf_text import AS_GPT2, DIGITS_APART, mend_cuts
from tests.llama import tiny_gguf
from tests.llama.tiny_gguf import write_gguf
from tests.tiny import tiny_model

SPACE = bytes_to_unicode()[ord(" ")]
PAIRS = [(SPACE, SPACE), *((a, b) for a in (SPACE, *"0123456789ab'.") for b in "0123456789abs.")]
PIECES = (
    *(" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "a", "B", "b2", "1", "23", "456", "7890"),
    *("é", "½", "²", "٣", "_", ".", "...", "!", "-", "'s", "'S", "'re", "中", "🙂", "e\u0301"),
)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file of which every text has tokens, with merges of digits, of spaces and of some letters."""
    tokens = ("<|end|>", *bytes_to_unicode().values(), *(a + b for a, b in PAIRS))
    monkeypatch.setattr(tiny_gguf, "TOKENS", tokens)
    monkeypatch.setattr(tiny_gguf, "MERGES", [f"{a} {b}" for a, b in PAIRS])
    return lambda rule: write_gguf(tmp_path / "a.gguf", tiny_model("llama", vocab_size=len(tokens)), rule=rule)


def differing(ours, theirs):
    """Random texts of which the tokens are not the same."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(PIECES, size=rng.integers(1, 12))) for _ in range(400)]
    return [text for text in texts if ours.encode_plain(text) != theirs.encode(text, add_special_tokens=False)]


@pytest.mark.parametrize("rule", [*sorted(AS_GPT2), *sorted(DIGITS_APART), "llama-bpe", "qwen2"])
def test_text_is_cut_as_llama_cpp_cuts_it(write, rule):
    file: Path = write(rule)
    engine = pc.load(str(file), slots=1, context_length=16)
    theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    assert bool(differing(engine.text, theirs)) == (rule in DIGITS_APART)  # or it would be done for nothing
    mend_cuts(theirs, file)
    assert not differing(engine.text, theirs)
    asyncio.run(engine.aclose())


def test_a_file_that_is_read_has_its_rule(write):
    file = write("smollm")
    assert not differing(pc.load(str(file), slots=1, context_length=16).text, read_gguf(file)[1])


def test_a_rule_that_nobody_knows_is_refused(write):
    with pytest.raises(pc.EngineError, match=r"cuts its text by a rule named viking, .* use the llama engine"):
        read_gguf(write("viking"))
