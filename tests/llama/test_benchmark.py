"""The benchmark of a GGUF file runs: it is read by no other test."""

import sys

import pytest

from tests.llama.tiny_gguf import write_gguf
from tests.test_benchmarks import BENCHMARKS
from tests.tiny import tiny_model


@pytest.mark.parametrize("sections", ["decoding"])
def test_it_runs(tmp_path, monkeypatch, capsys, sections):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import engine

    path = write_gguf(tmp_path / "tiny.gguf", tiny_model("llama", vocab_size=20, context=512))
    small = "--requests 1 3 --new-tokens 4 --repeats 2 --threads 1"
    monkeypatch.setattr(sys, "argv", ["engine.py", "--model", str(path), *small.split(), "--sections", sections])
    monkeypatch.setattr("gguf_file.TOP_K", 10)
    engine.main()
    assert "against llama.cpp without" in capsys.readouterr().out
