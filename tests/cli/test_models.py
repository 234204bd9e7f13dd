"""``powercut models``: lines, JSON and a table."""

import json
import logging

import pytest

from powercut.cli import main
from powercut.models import listing

ROWS = [
    listing.ModelInfo("smollm2", "bundled", True, "SmolLM2,\n4-bit", "the default"),
    listing.ModelInfo("any/model", "any", False, "needs [transformers]", "pip install 'powercut[transformers]'"),
]


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    monkeypatch.setattr(listing, "list_models", lambda folder: ROWS)


def test_a_line_each_when_piped(capsys):
    assert main(["models"]) == 0
    assert capsys.readouterr().out == (
        "smollm2\tbundled\tyes\tSmolLM2, 4-bit\tthe default\n"
        "any/model\tany\tno\tneeds [transformers]\tpip install 'powercut[transformers]'\n"
    )


def test_a_folder_that_is_none(capsys, tmp_path):
    assert main(["models", str(tmp_path / "no")]) == 2
    assert capsys.readouterr().err == f"error: FOLDER: there is no folder {tmp_path / 'no'}\n"


def test_json(capsys):
    assert main(["models", "--json"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["name"], first["available"]) == ("smollm2", True)
    assert set(second) == {"name", "kind", "available", "detail", "how"}


def test_a_table_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "150")
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert "\t" not in out
    for part in ("available", "smollm2", "the default"):
        assert part in out
    assert "needs [transformers]" in out  # not taken for markup


def test_what_the_library_logs_is_a_note(capsys, monkeypatch):
    def list_models(folder):
        logging.getLogger("powercut").info("converting %s", "the model")
        return []

    monkeypatch.setattr(listing, "list_models", list_models)
    assert main(["models"]) == 0
    assert capsys.readouterr().err == "note: converting the model\n"
    assert not logging.getLogger("powercut").handlers
