"""Packed linear layers give what torch's own give, and take the place of no others."""

import pytest
import torch
from torch import nn

from powercut.engines.transformers import TransformersEngine
from powercut.engines.transformers.packed_linear import PackedLinear, pack_linears
from tests.tiny import tiny_folder, tiny_model


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (1, 1), (2, 1), (3, 5), (8, 1), (40, 1), (0, 1), ()])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@torch.inference_mode()
def test_it_computes_what_torch_computes(shape, bias, dtype, near):
    """In bfloat16 where this processor packs it; elsewhere the layers stay torch's own."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 70, bias=bias, dtype=dtype))
    x = torch.randn(*shape, 40, dtype=dtype)
    want = model[0](x)
    pack_linears(model)
    got = model[0](x)
    assert got.is_contiguous()
    torch.testing.assert_close(got, want, rtol=near, atol=near / 10 if dtype == torch.float32 else near)


def test_it_shows_its_weights():
    layer = nn.Linear(40, 70)
    assert torch.equal(PackedLinear(layer).weight, layer.weight)


@torch.inference_mode()
def test_a_packed_model_gives_the_same_logits():
    model = tiny_model("llama", dtype=torch.float32)
    size = sum(p.numel() for p in model.parameters())
    x = torch.tensor([[1, 2, 3], [3, 2, 1]])
    want = model(x).logits
    pack_linears(model)
    assert not any(isinstance(module, nn.Linear) for module in model.modules())
    assert isinstance(model.get_output_embeddings(), PackedLinear)
    torch.testing.assert_close(model(x).logits, want, rtol=1e-4, atol=1e-5)
    packed = sum(module.packed.numel() for module in model.modules() if isinstance(module, PackedLinear))
    assert packed + sum(p.numel() for p in model.parameters()) == size  # no weight is kept twice


def test_a_packed_model_holds_no_more_than_it_announces(tmp_path):
    """A tensor read from a file is a view of all of it: one that stays would keep the whole file in memory."""
    engine = TransformersEngine.load(str(tiny_folder(tmp_path)), device="cpu", slots=1, context_length=8)
    for parameter in engine.model.parameters():
        assert parameter.untyped_storage().nbytes() == parameter.numel() * parameter.element_size()


def test_a_layer_in_two_places_stays_one():
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    pack_linears(model)
    assert model[0] is model[2]


def test_others_are_left_alone():
    class Special(nn.Linear):
        pass

    model = nn.Sequential(Special(3, 3), nn.Linear(3, 3, dtype=torch.float64), nn.Linear(3, 3, device="meta"))
    pack_linears(model)
    assert [type(module) for module in model] == [Special, nn.Linear, nn.Linear]


def test_a_torch_without_them_keeps_its_own(monkeypatch):
    def absent(*_):
        raise AttributeError("no such op")

    monkeypatch.setattr(PackedLinear, "__init__", absent)
    model = nn.Sequential(nn.Linear(3, 3))
    pack_linears(model)
    assert type(model[0]) is nn.Linear


def test_the_engine_packs_what_it_loads_and_not_what_it_is_given(tmp_path):
    engine = TransformersEngine.load(str(tiny_folder(tmp_path)), device="cpu", slots=1, context_length=8)
    assert any(isinstance(module, PackedLinear) for module in engine.model.modules())
    engine = TransformersEngine(tiny_model("llama"), slots=1, context_length=8)
    assert not any(isinstance(module, PackedLinear) for module in engine.model.modules())
