"""Finding models: folders, hub ids without a hub, and what is said of names that lead nowhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from powercut.errors import EngineError
from powercut.models.loading import load_model
from tests.models.refusal import refused

IDS = torch.tensor([[1, 5, 7, 2, 3, 9]])


def test_paths_that_hold_no_model(folder: Path, tmp_path: Path) -> None:
    assert "no config.json" in refused(EngineError, str(tmp_path))
    assert f"did you mean {folder}?" in refused(EngineError, str(folder.with_name("tinny")))
    (tmp_path / "weights.bin").write_bytes(b"PK")
    assert "is a file" in refused(EngineError, str(tmp_path / "weights.bin"))


def test_an_unreachable_hub_is_said_at_once(hub: Path) -> None:
    started = time.monotonic()
    text = refused(EngineError, "Qwen/Qwen2.5-Math-1.5B")
    assert "hub cannot be reached" in text
    assert "smollm2 needs no hub" in text
    assert time.monotonic() - started < 10


def test_without_a_hub_the_bundled_models_hub_id_is_the_bundled_model(hub: Path, small_bundle: Path) -> None:
    with pytest.warns(UserWarning, match="hub cannot be reached.*quantised to 4 bits"):
        assert load_model("HuggingFaceTB/SmolLM2-135M-Instruct").name == "smollm2"


def test_a_hub_id_in_the_cache_loads_without_a_hub(hub: Path, folder: Path) -> None:
    repo = hub / "models--someone--tiny"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    (repo / "snapshots").mkdir()
    (repo / "snapshots" / ("0" * 40)).symlink_to(folder)
    started = time.monotonic()
    loaded = load_model("someone/tiny", device="cpu")
    assert time.monotonic() - started < 5
    assert loaded.name == "someone/tiny"
    assert loaded.stop_tokens == {0, 2, 7}
    assert torch.equal(loaded.model(IDS).logits, load_model(str(folder), device="cpu").model(IDS).logits)


@pytest.mark.parametrize(
    ("error", "said"), [("GatedRepoError", "is gated"), ("RepositoryNotFoundError", "nor on the hub")]
)
def test_what_the_hub_says_is_passed_on(hub: Path, monkeypatch: pytest.MonkeyPatch, error: str, said: str) -> None:
    import huggingface_hub

    kind = getattr(huggingface_hub.errors, error)

    def answer(*_: Any, **__: Any) -> None:
        raise kind.__new__(kind)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", answer)
    assert said in refused(EngineError, "someone/something")
