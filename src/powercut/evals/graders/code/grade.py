"""HumanEval: from a completion to a program that checks it, and from that program's run to a grade. Runs nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from powercut.evals.graders.code.solution import solution
from powercut.evals.problem import NO_ANSWER, Grade, Problem

PASSED = "powercut: every check passed"
"""What a check program prints last, and only then: an exit status of 0 is one call of ``exit`` away."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How the run of a program ended; ``stopped`` says why it was stopped, None if it ended by itself."""

    returncode: int | None
    stdout: str
    stderr: str
    stopped: str | None = None


Execute = Callable[[str], Awaitable[Execution]]
"""Runs a Python program where it can do no harm."""


def check_program(problem: Problem, program: str) -> str:
    """A program that runs ``program`` and the problem's checks on it, and prints PASSED if they all hold."""
    return _CHECK.format(solution=program, checks=problem.test, entry_point=problem.entry_point, passed=f"\n{PASSED}\n")


async def grade_code(problem: Problem, text: str, execute: Execute) -> Grade:
    """Whether the function in ``text`` passes the problem's checks when ``execute`` runs them."""
    program = solution(problem, text)
    if program is None:
        return Grade(False, None, NO_ANSWER)
    run = await execute(check_program(problem, program))
    if run.stopped is None and run.stdout.rstrip().endswith(PASSED):
        return Grade(True, program)
    return Grade(False, program, run.stopped or _why(run))


_CHECK = """\
import io, os, sys, types

report, sys.stdout, sys.stdin = sys.stdout, open(os.devnull, "w"), io.StringIO()
module = sys.modules["solution"] = types.ModuleType("solution")
exec(compile({solution!r}, "solution.py", "exec"), module.__dict__)
exec(compile({checks!r}, "checks.py", "exec"), module.__dict__)
module.check(module.{entry_point})
report.write({passed!r})
report.flush()
"""


def _why(run: Execution) -> str:
    lines = run.stderr.strip().split("\n")
    if run.returncode == 0:
        return "it ended before the checks did"
    if lines[-1]:
        return lines[-1][:200]
    return f"it ended with exit status {run.returncode}"
