"""HumanEval: from a completion to a program that checks it, and from that program's run to a grade. Runs nothing."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

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

_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_BLANK_LINES = re.compile(r"(?:[ \t]*\n)*")
_FUTURE = re.compile(r"^from __future__ import .*\n", re.MULTILINE)
_CONTINUES = re.compile(_BLANK_LINES.pattern + r"(?: {2,}|\t)[ \t]*\S")
# The lines at the left margin that belong to a program; anything else there is prose around it.
_TOP_LEVEL = re.compile(
    r"(?:async )?def |class |import |from \w[\w.]* import|@|#|[)\]}]|\"\"\"|\'\'\'"
    r"|if |elif |else:|for |while |with |try:|except|finally:"
    r"|[A-Za-z_][\w.]*(?:\[[^\]\n]*\])? ?(?::[^=\n]+)?=|[a-z_][\w.]*\("
)


def solution(problem: Problem, text: str) -> str | None:
    """The program that ``text`` gives as its answer, imports and helpers of the question included; None if it is empty.

    ``text`` continues the question, or holds the whole function (in a fenced block or not) or its body.
    """
    if _CONTINUES.match(text):  # the rest of the function: a fence or a second function may only follow it
        return _continued(problem.question, text)
    signature = re.compile(rf"^(?:async )?def {re.escape(problem.entry_point)}\b", re.MULTILINE)
    code = _fenced(text, signature)
    if signature.search(code):
        given = signature.split(problem.question)[0]  # what the question has in front of the function
        first = "".join(_FUTURE.findall(code))
        return f"{first}{given}\n{_FUTURE.sub('', _program(code))}\n"
    return _continued(problem.question, code) if code.strip() else None


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


def _fenced(text: str, signature: re.Pattern[str]) -> str:
    """The last fenced block that defines the function, else the first one, else all of ``text``."""
    blocks = []
    for block in _FENCE.findall(text):
        unindented = textwrap.dedent(block)
        blocks.append(unindented if signature.search(unindented) else block)
    return next((block for block in reversed(blocks) if signature.search(block)), blocks[0] if blocks else text)


def _program(code: str) -> str:
    """``code`` without the prose in front of it and behind it."""
    lines = code.split("\n")
    start = next(i for i, line in enumerate(lines) if re.match(r"(?:async )?def |class |import |from |@", line))
    end = next((i for i in range(start, len(lines)) if not _belongs(lines[i])), len(lines))
    return "\n".join(lines[start:end])


def _belongs(line: str) -> bool:
    return not line.strip() or line[0] in " \t" or bool(_TOP_LEVEL.match(line))


def _continued(question: str, code: str) -> str:
    """The question continued by ``code``, whose indentation, or that of its first line, may have been lost."""
    body = _BLANK_LINES.sub("", code, count=1)
    if body[0] in " \t":
        return question + _indented_lines(body)
    every, first = (question + _indented_lines(text) for text in (textwrap.indent(body, "    "), "    " + body))
    return every if _parses(every) else first


def _indented_lines(text: str) -> str:
    """``text`` up to the first line that is not indented: the function ends there."""
    lines = text.split("\n")
    end = next((i for i, line in enumerate(lines) if line.strip() and line[0] not in " \t"), len(lines))
    return "\n".join(lines[:end]) + "\n"


def _parses(program: str) -> bool:
    try:
        ast.parse(program)
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the last two: nested too deeply
        return False
    return True


def _why(run: Execution) -> str:
    lines = run.stderr.strip().split("\n")
    if run.returncode == 0:
        return "it ended before the checks did"
    if lines[-1]:
        return lines[-1][:200]
    return f"it ended with exit status {run.returncode}"
