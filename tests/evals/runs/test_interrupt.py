"""Ctrl-C, as a signal to a process: it ends with 130, says what is kept, loses nothing, and starts nothing further."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RUN = ["arithmetic", "--limit", "5", "--seeds", "3", "--sampler", "entropy-cut", "--sampler", "best-of-n"]
SHORT = [
    "--match",
    "entropy-cut",
    "--max-new-tokens",
    "8",
    "--blocks",
    "2",
    "--steps",
    "3",
    "--concurrency",
    "4",
    "--quiet",
]


def lines(folder, name):
    """The whole lines of every file of this name."""
    return {
        line
        for file in folder.glob(f"cells/*/{name}")
        for line in file.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    }


def keys(found):
    return {(row["cell"], row["id"], row["seed"]) for row in map(json.loads, found)}


@pytest.fixture
def start(tmp_path):
    """Starts a run that hangs once it has so many results; whatever is left of it goes at the end of the test."""
    running = []

    def start(results):
        command = [
            sys.executable,
            "-m",
            "tests.evals.hanging",
            str(results),
            str(tmp_path / "run"),
            *RUN,
            *SHORT,
        ]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, cwd=ROOT, **pipes))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def wait_until(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


# Of the 15 completions of the first cell none is finished, some are, all are and best-of-n is at work.
@pytest.mark.parametrize("results", [0, 2, 15])
def test_ctrl_c(start, tmp_path, results):
    run = tmp_path / "run"
    process = start(results)
    logs = 1 + (results == 15)
    wait_until(lambda: len([*run.glob("logs/*.eval")]) == logs and len(lines(run, "results.jsonl")) >= results, process)
    sampled, graded = lines(run, "completions.jsonl"), lines(run, "results.jsonl")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    now = lines(run, "results.jsonl")
    message = r"interrupted: (\d+) completions are in .*run, and the same command goes on from there\n"
    assert int(re.fullmatch(message, err)[1]) == len(now) >= results
    assert graded <= now
    assert keys(sampled) <= keys(now | lines(run, "completions.jsonl"))
    if results < 15:
        assert {row["sampler"] for row in map(json.loads, now | lines(run, "completions.jsonl"))} <= {"entropy-cut"}
        assert len(list(run.glob("logs/*.eval"))) == 1
