"""Every benchmark runs: the scripts are read by no other test, and rot when what they measure moves."""

import runpy
import sys
from pathlib import Path

import pytest

from tests.tiny import tiny_folder

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

SMALL_CHAINS = "--max-new-tokens 4 --blocks 2 --steps 2"
RUNS = {
    "decisions": "--new-tokens 16 --cuts 4 --redraws 4 --slots 4",
    "early_rejection": SMALL_CHAINS,
    "engine": "--requests 2 --new-tokens 2 --repeats 1 --chains 2 --chain-tokens 8 --length 264",
    "eval_overhead": "--completions 4 --tokens 8 --repeats 1",
    "latency": f"{SMALL_CHAINS} --prompts 1",
    "linear": "--shapes 8x8 --rows 1 --repeats 1",
    "memory": "--slots 2 --length 16",
    "newcomers": "--newcomers 2 --decoders 2 --prompt-tokens 20 --repeats 1",
    "peers": f"{SMALL_CHAINS} --count 2 --concurrency 2 --fewer 1",
    "quality": "--problems 2 --budgets 40 --max-new-tokens 8",
    "report": "--rows 200 --seeds 2 --text-length 20",
    "serve": f"--clients 3 --seconds 1 --chains 2 --repeats 1 --requests 3 {SMALL_CHAINS}",
    "skip_repeats": f"{SMALL_CHAINS} --count 2 --repeats 1",
    "throughput": f"{SMALL_CHAINS} --count 3 --concurrency 2",
    "train_anchors": "--problems 8",
}
"""Options that make each of them small."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_folder(tmp_path_factory.mktemp("model"), context=2048))


def test_all_are_listed():
    assert {path.stem for path in BENCHMARKS.glob("*.py")} - {"common", "gguf_file", "view"} == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_it_runs(name, model, tmp_path, monkeypatch, capsys):
    script = BENCHMARKS / f"{name}.py"
    options = ["--model", model] if '"--model"' in script.read_text() else []
    monkeypatch.setattr(sys, "argv", [str(script), *options, *RUNS[name].split()])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out
