"""YaRN: the context extended by an option is the one that the model's own config would give."""

import json
import shutil

import numpy as np
import pytest
import torch

import powercut as pc
from powercut.errors import SettingError
from powercut.models.loading import load_model
from powercut.models.yarn import yarn_changes
from tests.tiny import tiny_folder, tiny_llama_folder, tiny_model


def test_the_option_gives_the_model_that_its_config_would(tmp_path):
    tiny_llama_folder(tmp_path / "plain", context=32)
    shutil.copytree(tmp_path / "plain", tmp_path / "yarn")
    file = tmp_path / "yarn" / "config.json"
    config = json.loads(file.read_text())
    rope = {**config["rope_parameters"], "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}
    file.write_text(json.dumps({**config, "rope_parameters": rope, "max_position_embeddings": 64}))
    ids = torch.arange(3, 63)[None]
    wanted = load_model(str(tmp_path / "yarn"), device="cpu").model(ids).logits
    assert torch.equal(load_model(str(tmp_path / "plain"), device="cpu", yarn=2).model(ids).logits, wanted)
    assert not torch.allclose(
        load_model(str(tmp_path / "plain"), device="cpu").model(ids[:, :30]).logits, wanted[:, :30]
    )


def test_an_engine_decodes_beyond_the_context_that_the_model_had(tmp_path):
    folder = str(tiny_llama_folder(tmp_path / "plain", context=32))
    with pytest.raises(SettingError, match="context_length must be from 2 to 32"):
        pc.load(folder, device="cpu", context_length=64)
    engine = pc.load(folder, device="cpu", context_length=64, yarn=2.0)
    [c] = pc.sample(engine, pc.Standard(max_new_tokens=50, top_k=None), [[5, 6, 7]], seed=1)
    whole = torch.tensor([[5, 6, 7, *c.tokens.tolist()]])
    logp = load_model(folder, device="cpu", yarn=2.0).model(whole).logits[0].double().log_softmax(-1)
    expected = logp[torch.arange(2, len(whole[0]) - 1), whole[0, 3:]].numpy()
    assert np.abs(c.trace.logp - expected).max() < 1e-4


@pytest.mark.parametrize(
    "factor", [1, 0.5, 0, -2, 65, float("nan"), float("inf"), True, "2", pytest.param(10**5000, id="huge")]
)
def test_factors_that_make_no_sense(factor):
    with pytest.raises(SettingError, match="yarn must be a number above 1"):
        yarn_changes(tiny_model("llama").config, factor)


@pytest.mark.parametrize("kind", ["gpt2", "gemma3", "mamba"])
def test_models_without_plain_rotary_embeddings_are_refused(tmp_path, kind):
    folder = str(tiny_folder(tmp_path / kind, kind))
    with pytest.raises(SettingError, match="yarn stretches plain rotary embeddings, and this model has others"):
        pc.load(folder, device="cpu", yarn=2)
