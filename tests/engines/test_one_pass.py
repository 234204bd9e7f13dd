"""Both ways of feeding rows together against plain forward passes, for every mixture of newcomers and decoders."""

import numpy as np
import pytest
import torch

import powercut as pc
from powercut.engines.transformers.one_pass import ByRow, Flattened, NoSlotsError
from powercut.engines.transformers.tensor_slots import TensorSlots
from tests.families import tiny_family
from tests.tiny import tiny_model

VOCAB, LENGTH = 40, 48


def plain(model, tokens):
    with torch.inference_mode():
        return model(input_ids=torch.tensor(tokens)[None], use_cache=False).logits[0, -1]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt-neox"])
@pytest.mark.parametrize("way", [Flattened, ByRow])
def test_rows_fed_together_have_the_laws_of_plain_passes(kind, way):
    """Rows come and go; each pass takes some of them, with one token or several, drawing or not, in any order."""
    model = tiny_model(kind, vocab_size=VOCAB, dtype=torch.float64)
    cache, rng, busy = TensorSlots(model, 5, LENGTH, way), np.random.default_rng(0), {}
    for step in range(40):
        while len(busy) < 5 and rng.random() < 0.6:
            context = rng.integers(VOCAB, size=LENGTH)
            slot, held = cache.open(pc.Request(context, 1))
            busy[id(slot)] = slot, context, min(held, LENGTH - 1)
            cache.rewind(slot, busy[id(slot)][2])
        taken = [key for key in rng.permutation(list(busy)) if rng.random() < 0.8]
        sizes = [min(int(rng.choice([1, 1, 2, 7, 19])), LENGTH - busy[key][2]) for key in taken]
        taken = [key for key, size in zip(taken, sizes, strict=True) if size]
        sizes = [size for size in sizes if size]
        if not taken:
            continue
        drawing = int(rng.integers(len(taken) + 1))
        for i in range(drawing, len(taken)):  # whoever does not draw has more to feed
            sizes[i] = min(sizes[i], LENGTH - 1 - busy[taken[i]][2])
        if 0 in sizes:
            continue
        parts = [busy[key] for key in taken]
        new = [context[held : held + size] for (_, context, held), size in zip(parts, sizes, strict=True)]
        logits = cache.advance([slot for slot, _, _ in parts], new, drawing)
        assert len(logits) == drawing
        for i, (key, size) in enumerate(zip(taken, sizes, strict=True)):
            slot, context, held = busy[key]
            busy[key] = slot, context, held + size
            if i < drawing:
                torch.testing.assert_close(logits[i], plain(model, context[: held + size]), atol=1e-9, rtol=0)
        for key in [key for key, (_, _, held) in busy.items() if held == LENGTH or rng.random() < 0.1]:
            cache.close(busy[key][0], LENGTH, wanted=bool(step % 2))
            del busy[key]
    assert model.config._attn_implementation == "sdpa"


def test_the_model_is_as_before_when_a_pass_fails():
    model = tiny_model("llama", vocab_size=VOCAB)
    cache = TensorSlots(model, 1, LENGTH, Flattened)
    slot, _ = cache.open(pc.Request([1, 2, 3], 1))
    before = plain(model, [1, 2, 3])
    with pytest.raises(IndexError):
        cache.advance([slot], [np.array([VOCAB])], 1)
    assert torch.equal(plain(model, [1, 2, 3]), before)
    assert model.config._attn_implementation == "sdpa"


def test_another_thread_with_the_same_model_gets_what_it_would_have_got(monkeypatch):
    """While a pass runs, the model has the attention of the passes: whoever else calls it has its own masks."""
    model = tiny_model("llama", vocab_size=VOCAB)
    padded = {"input_ids": torch.tensor([[0, 1, 2], [1, 2, 3]]), "attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1]])}
    with torch.inference_mode():
        want = model(**padded, use_cache=False).logits
        model.config._attn_implementation = "powercut-flattened"
        got = model(**padded, use_cache=False).logits
    assert torch.equal(got, want)


def test_models_that_cannot_be_fed_in_one_line_say_why():
    with pytest.raises(NoSlotsError, match="attention of its own"):
        TensorSlots(tiny_family("xglm"), 1, LENGTH, Flattened)
