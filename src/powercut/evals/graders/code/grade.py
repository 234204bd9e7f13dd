"""Grading code: the program in a completion, run by its problem's checks in a sandbox."""

from __future__ import annotations

import functools
import json
import secrets
from typing import Any

from powercut.errors import PowercutError, one_line
from powercut.evals.graders.code import judge, judged, plain
from powercut.evals.graders.code.solution import given, solution
from powercut.evals.problem import NO_ANSWER, Grade, Problem
from powercut.evals.sandbox import confine
from powercut.evals.sandbox.bundle import bundle
from powercut.evals.sandbox.execution import Execute, Execution, SandboxError

_SIGNALLED = 128
"""Exit statuses from here on, and negative ones, are those of processes that were killed."""


async def grade_code(problem: Problem, text: str, execute: Execute) -> Grade:
    """Whether the function in ``text`` passes the problem's checks when ``execute`` runs the judge of both.

    Raises SandboxError when the judge does not come to a verdict for reasons of its own, and PowercutError when the
    checks cannot be loaded: neither says anything of the text.
    """
    program = solution(problem, text)
    if program is None:
        return Grade(False, None, NO_ANSWER)
    nonce = secrets.token_hex()
    run = await execute(judge_program(problem, program, nonce))
    if run.stopped is not None:
        return Grade(False, program, run.stopped)
    verdict = _verdict(run, nonce)
    if verdict is None and run.returncode is not None and 0 <= run.returncode < _SIGNALLED:
        raise SandboxError(f"the judge of problem {problem.id} failed: {one_line(run.stderr[-500:])}")
    if verdict is None:
        return Grade(False, program, "its judge was killed")
    if "broken" in verdict:
        raise PowercutError(f"the checks of problem {problem.id} cannot be run: {verdict['broken']}")
    return Grade(verdict["reason"] is None, program, verdict["reason"])


def judge_program(problem: Problem, program: str, nonce: str) -> str:
    """A program that judges another by the problem's checks, and says so with the nonce on standard output."""
    arguments = (nonce, program, problem.entry_point, given(problem), problem.test, _judged())
    return bundle(confine, plain, judge, call=f"main{arguments!r}")


@functools.cache
def _judged() -> str:
    return bundle(confine, plain, judged, call="main").rstrip()


def _verdict(run: Execution, nonce: str) -> dict[str, Any] | None:
    for line in run.stdout.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and said.get("nonce") == nonce:
            return said
    return None
