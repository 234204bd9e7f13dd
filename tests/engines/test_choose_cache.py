"""The trial at load: which models decode in slots, which with caches of their own, and what is said of the others."""

import warnings

import numpy as np
import pytest
import torch
import transformers

import powercut as pc
from powercut.engines.transformers import TransformersEngine, choose_cache
from powercut.engines.transformers.native_cache import NativeCaches
from powercut.engines.transformers.one_pass import ByRow, Flattened
from powercut.engines.transformers.tensor_slots import TensorSlots
from tests.engines.test_families import company, error_of
from tests.families import tiny_family
from tests.tiny import tiny_model


def make(model, **options):
    """An engine, and what it said of its cache."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        engine = TransformersEngine(model, slots=4, **({"context_length": 64} | options))
    return engine, " ".join(str(warning.message) for warning in caught)


def worst_error(engine):
    return max(error_of(engine.model, context, trace) for context, trace in company(engine, seed=3))


def gpt_neo(window):
    """Half its layers look back over ``window`` tokens, by masks of its own making."""
    return tiny_family("gpt_neo", window_size=window)


@pytest.mark.parametrize("kind", ["gpt_neo", "xglm", "gpt_neox_japanese", "codegen"])
def test_models_that_add_their_masks_decode_right_in_slots(kind):
    engine, said = make(gpt_neo(64) if kind == "gpt_neo" else tiny_family(kind))
    assert not said
    assert worst_error(engine) < 1e-4


@pytest.mark.parametrize("window", [8, 20, 30, 63])
def test_windows_of_a_models_own_decode_one_by_one(window):
    """Those that a trial reaches are seen there, longer ones by their setting."""
    engine, said = make(gpt_neo(window))
    assert f"window_size={window}" in said
    assert "one request at a time" in said
    assert worst_error(engine) < 1e-4


def test_a_window_that_no_layer_uses_does_not_matter():
    engine, said = make(tiny_family("smollm3", sliding_window=8))
    assert not said
    assert worst_error(engine) < 1e-4


def test_half_precision_is_right_to_its_rounding():
    """The error of the short rows is no larger than that of the long ones, which see no remains of others."""
    engine, said = make(tiny_family("mpt", dtype=torch.bfloat16))
    assert not said
    errors = [error_of(engine.model, context, trace) for context, trace in company(engine, seed=3)]
    assert max(errors) < 0.1


@pytest.mark.parametrize("alibi", ["bloom", "falcon"])
def test_alibi_loads(alibi):
    engine, said = make(tiny_family(alibi, **({"alibi": True} if alibi == "falcon" else {})))
    assert "fails in slots (ValueError: too many values to unpack" in said
    assert "one request at a time" in said
    assert worst_error(engine) < 1e-4


def test_a_model_whose_own_cache_is_wrong_computes_every_context_anew():
    engine, said = make(tiny_family("moshi"))
    assert "gives other logits with its own cache" in said
    assert "computed anew for each token" in said
    assert worst_error(engine) < 1e-9


def longrope(**options):
    factors = {"short_factor": [1.0] * 4, "long_factor": [1.5, 3.0, 6.0, 12.0]}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 48}
    switch = {"original_max_position_embeddings": 48}  # Phi-3 has it here as well
    return tiny_family("phi3", sliding_window=None, rope_parameters=rope | factors, **switch, **options)


def test_a_context_beyond_a_rope_switch_is_refused():
    engine, said = make(longrope(), context_length=None)
    assert engine.context_length == 48
    assert not said
    make(longrope(), context_length=48)
    with pytest.raises(pc.SettingError, match=r"context_length must be from 2 to 48 \(got 49\): .*rotary"):
        make(longrope(), context_length=49)
    with pytest.raises(pc.SettingError, match="context_length=48"):
        engine.check(pc.Request([1] * 40, 9))


def test_rope_switches_of_single_layer_types_count():
    config = transformers.LlamaConfig()
    assert choose_cache.rope_switch(config) is None
    config.rope_parameters = {
        "full_attention": {"rope_type": "longrope", "original_max_position_embeddings": 7},
        "sliding_attention": {"rope_type": "default"},
    }
    assert choose_cache.rope_switch(config) == 7


def test_positions_without_end():
    engine, said = make(tiny_family("xlnet"), context_length=None)
    assert engine.context_length == 4096
    assert "keeps no key/value cache" in said


def test_a_model_whose_attention_cannot_be_replaced_is_fed_row_by_row():
    engine, said = make(tiny_family("xglm"))
    assert engine.describe().endswith("row by row")
    assert make(tiny_model("llama", vocab_size=40))[0].describe().endswith("in one line")
    assert not said
    assert worst_error(engine) < 1e-4


def without_masks(monkeypatch, way):
    monkeypatch.setattr(way, "_hide", lambda self, hidden: torch.zeros(hidden.shape, dtype=self.model.dtype))


def with_one_position(monkeypatch, way):
    """For all that is computed together, whatever a model would do with positions."""
    run = way._run

    def wrong(self, model, tokens, mask, **options):
        def forward(*, position_ids, **inputs):
            return model(position_ids=position_ids.max().expand_as(position_ids), **inputs)

        return run(self, forward, tokens, mask, **options)

    monkeypatch.setattr(way, "_run", wrong)


def rewound_too_little(monkeypatch, way):
    rewind = TensorSlots.rewind
    monkeypatch.setattr(
        TensorSlots, "rewind", lambda self, slot, length: rewind(self, slot, length + (isinstance(self._pass, way)))
    )


@pytest.mark.parametrize("fault", [without_masks, with_one_position, rewound_too_little])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_slot_cache_that_is_wrong_is_seen(monkeypatch, fault, dtype):
    """Wrong in one line only, it is fed row by row; wrong in both ways, it is not used."""
    model = tiny_model("llama", vocab_size=40, dtype=dtype)
    fault(monkeypatch, Flattened)
    engine, said = make(model)
    assert engine._cache.way == ByRow.way
    assert not said
    fault(monkeypatch, ByRow)
    engine, said = make(model)
    assert "LlamaForCausalLM" in said
    assert isinstance(engine._cache, NativeCaches)


def test_a_model_that_does_not_run_is_said_in_one_line(monkeypatch):
    model = tiny_model("llama", vocab_size=40)
    monkeypatch.setattr(type(model), "forward", lambda *_, **__: 1 / 0)
    with pytest.raises(pc.EngineError, match="cannot be run \\(ZeroDivisionError: division by zero\\)"):
        make(model)


@pytest.mark.parametrize("length", [2, 5, 12])
def test_models_of_few_positions_are_tried_too(length):
    engine, said = make(tiny_model("gpt2", vocab_size=40, context=max(4, length)), context_length=length)
    assert not said
    assert np.isfinite(engine._cache.nbytes)
