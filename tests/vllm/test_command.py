"""``powercut sample`` on a real vLLM, which logs to stdout unless told otherwise."""

import json
import subprocess
import sys
from pathlib import Path


def test_the_command_prints_completions_only():
    words = "sample Hello --model vllm:smollm2 --slots 4 --context-length 512 -n 2 --json --max-new-tokens 8 --blocks 1"
    run = subprocess.run(
        [Path(sys.executable).with_name("powercut"), *words.split()],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(lines) == 2
    assert all(line["tokens"] for line in lines)
    assert "Traceback" not in run.stderr
