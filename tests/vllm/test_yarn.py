"""An extended context is the same on vLLM as on transformers."""

import asyncio

import numpy as np
import pytest

import powercut as pc
from powercut.errors import SettingError
from powercut.models.loading import load_model
from tests.vllm.models import forced, save_tiny


def test_tokens_beyond_the_models_own_context_have_the_law_of_a_forward_pass(tmp_path):
    folder = save_tiny(tmp_path, context=64, eos=())  # it goes on to the end
    options = {"skip_tokenizer_init": True, "kv_cache_memory_bytes": 2**28, "context_length": 128, "slots": 4}
    with pytest.raises(SettingError, match="yarn and hf_overrides both"):
        pc.load(f"vllm:{folder}", yarn=2, hf_overrides={}, **options)
    engine = pc.load(f"vllm:{folder}", yarn=2, **options)
    try:
        request = pc.Request(context=np.array([1, 2, 3]), max_new_tokens=110, top_k=6, temperature=0.5, seed=4)
        trace = asyncio.run(engine.extend(request))
    finally:
        asyncio.run(engine.aclose())
    assert len(trace) == 110
    model = load_model(str(folder), device="cpu", yarn=2).model
    expected = forced(model, request.context, trace.tokens, top_k=6, temperature=0.5)
    for ours, theirs in ((trace.logp, expected.logp), (trace.logq, expected.logq), (trace.entropy, expected.entropy)):
        assert np.abs(ours - theirs).max() < 2e-3
