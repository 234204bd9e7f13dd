"""The benchmark of a GGUF file runs: it is read by no other test."""

import sys

from tests.llama.tiny_gguf import write_gguf
from tests.test_benchmarks import BENCHMARKS
from tests.tiny import tiny_model


def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import engine

    path = write_gguf(tmp_path / "tiny.gguf", tiny_model("llama", vocab_size=20, context=512))
    small = "--requests 1 3 --new-tokens 4 --repeats 2 --threads 1 --sections decoding largest"
    monkeypatch.setattr(sys, "argv", ["engine.py", "--model", str(path), *small.split()])
    monkeypatch.setattr("gguf_file.TOP_K", 10)
    engine.main()
    out = capsys.readouterr().out
    assert "against llama.cpp without" in out
    assert "argpartition" in out
