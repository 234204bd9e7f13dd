"""Run code that a model wrote in docker, by Inspect's sandbox; docker-sandbox.yaml says what it may use."""

from __future__ import annotations

from pathlib import Path

from inspect_ai.util import OutputLimitExceededError, sandbox

from powercut.evals.sandbox.execution import Execution

DOCKER = ("docker", str(Path(__file__).with_name("docker-sandbox.yaml")))
"""What an Inspect task calls its sandbox."""

_SECONDS = 10
"""For a program to end."""


async def run_in_docker(program: str) -> Execution:
    """Run a Python program in the sandbox of the Inspect sample that is at work."""
    try:
        run = await sandbox().exec(["python3", "-"], input=program, timeout=_SECONDS, timeout_retry=False)
    except TimeoutError:
        return Execution(None, "", "", f"it did not end within {_SECONDS} s")
    except OutputLimitExceededError:
        return Execution(None, "", "", "it wrote too much")
    return Execution(run.returncode, run.stdout, run.stderr)
