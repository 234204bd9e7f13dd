"""A run that is killed (SIGKILL) again and again ends with what an undisturbed run has."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from powercut.chains import read_chains
from powercut.cli import main
from powercut.records import step_file
from tests.tiny import tiny_folder

ROOT = Path(__file__).parents[3]
RUN = ["arithmetic", "--limit", "3", "--seeds", "2", "--sampler", "entropy-cut", "--sampler", "best-of-n"]
SHORT = ["--match", "entropy-cut", "--max-new-tokens", "8", "--blocks", "2", "--steps", "2", "--quiet"]


def rows(folder):
    """All rows; each completion once."""
    found = [
        json.loads(line)
        for file in sorted(folder.glob("cells/*/results.jsonl"))
        for line in file.read_text().splitlines()
    ]
    keys = [(row["cell"], row["id"], row["seed"]) for row in found]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, found, strict=True))


def same(found, wanted, *but):
    def kept(row):
        return {name: value for name, value in row.items() if name not in ("seconds", *but)}

    return {key: kept(row) for key, row in found.items()} == {key: kept(row) for key, row in wanted.items()}


# Of the 40 or so writes of such a run: the first files, completions, results, and what is rewritten at the end.
DEATHS = [(1, "before"), (9, "torn"), (11, "after"), (8, "before"), (12, "torn")]


def test_no_kill_loses_or_repeats_a_completion(tmp_path, engine, capsys):
    assert main(["eval", *RUN, *SHORT, "--out", str(tmp_path / "whole")]) == 0
    undisturbed = rows(tmp_path / "whole")
    assert len(undisturbed) == 12
    out, before = tmp_path / "killed", {}
    for write, how in DEATHS:
        command = [sys.executable, "-m", "tests.evals.killed", str(write), how, *RUN, *SHORT, "--out", str(out)]
        died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        assert died.returncode == -9, died.stderr
        now = {
            (row["cell"], row["id"], row["seed"]): row
            for file in out.glob("cells/*/results.jsonl")
            for line in file.read_text().splitlines(keepends=True)
            if line.endswith("\n")
            for row in [json.loads(line)]
        }
        assert before.items() <= now.items()  # to the last digit of the seconds: not sampled again
        before = now
    assert 0 < len(before) < 12
    assert main(["eval", *RUN, *SHORT, "--out", str(out)]) == 0
    found = rows(out)
    assert before.items() <= found.items()
    assert same(found, undisturbed)
    assert not list(out.glob("cells/*/completions.jsonl"))
    assert len(json.loads((out / "run.json").read_text())["resumed"]) == len(DEATHS) - 1  # one died before it wrote


# Of the 60 or so writes: while steps are written, between them and their completions, and once some are graded.
DEATHS_WITH_STEPS = [(3, "torn"), (6, "before"), (9, "after"), (10, "torn"), (14, "before")]


def test_no_kill_loses_or_doubles_the_steps_of_a_completion(tmp_path, engine, capsys):
    out, run = tmp_path / "killed", [*RUN, *SHORT, "--save-trace"]
    for write, how in DEATHS_WITH_STEPS:
        command = [sys.executable, "-m", "tests.evals.killed", str(write), how, *run, "--out", str(out)]
        died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        assert died.returncode == -9, died.stderr
        for name in ("completions", "results"):  # what counts has its steps
            for file in out.glob(f"cells/*/{name}.jsonl"):
                for line in file.read_text().splitlines(keepends=True):
                    assert not line.endswith("\n") or steps_of(file.parent, json.loads(line))
    assert main(["eval", *run, "--out", str(out)]) == 0
    found = rows(out)
    assert len(found) == 12
    for (cell, *_), row in found.items():
        chain = steps_of(out / "cells" / cell, row)
        assert (chain.completed.text, chain.completed.logp) == (row["text"], row["logp"])
        assert len([p for p in chain.proposals if p.step is not None]) <= row["steps"]
    assert len(list(out.glob("cells/*/steps/*"))) == 12


def steps_of(cell, row):
    [chain] = read_chains(step_file(cell, row["id"], row["seed"])).by_place.values()
    return chain


@pytest.fixture
def start():
    running = []

    def start(*arguments):
        code = "import sys; from powercut.cli import main; sys.exit(main())"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", code, "eval", *arguments], cwd=ROOT, **pipes)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_a_transformers_run_survives_kills(tmp_path, start):
    model = tiny_folder(tmp_path / "model", context=1024)
    run = ["arithmetic", "--limit", "8", "--model", str(model), "--slots", "2", "--concurrency", "2", "--quiet"]
    run += ["--max-new-tokens", "32", "--blocks", "4", "--steps", "4"]
    out = tmp_path / "killed"
    for least in (1, 4):
        process = start(*run, "--out", str(out))
        while sum(file.read_bytes().count(b"\n") for file in out.glob("cells/*/results.jsonl")) < least:
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        process.kill()
        assert process.wait(timeout=60) == -9
    assert main(["eval", *run, "--out", str(out)]) == 0
    assert main(["eval", *run, "--out", str(tmp_path / "whole")]) == 0
    found, undisturbed = rows(out), rows(tmp_path / "whole")
    assert len(found) == 8
    rounded = ("logp", "entropy", "chain")
    assert same(found, undisturbed, *rounded, "tokens_prefilled", "text", "answer", "correct", "reason")
    # Rounding in the model may depend on what else is in its batch.
    for key, row in found.items():
        assert row["logp"] == pytest.approx(undisturbed[key]["logp"], rel=1e-4)
        stage, wanted = row["chain"], undisturbed[key]["chain"]
        assert stage.pop("logp") == pytest.approx(wanted.pop("logp"), rel=1e-4)
        assert stage == wanted
        assert row["text"] == undisturbed[key]["text"]
