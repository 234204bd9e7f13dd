"""The verdict on a function comes from outside of the process it runs in: no program can say it, or bend the checks."""

import asyncio
import json
import re

import pytest

from powercut.errors import PowercutError
from powercut.evals.graders.code import judge, plain
from powercut.evals.graders.code.grade import _judged, grade_code
from powercut.evals.graders.code.solution import given
from powercut.evals.problem import Problem
from powercut.evals.sandbox import confine
from powercut.evals.sandbox.bundle import bundle
from powercut.evals.sandbox.execution import Execution, SandboxError
from powercut.evals.sandbox.isolation import Isolation
from powercut.evals.sandbox.local_sandbox import LocalSandbox
from powercut.evals.sandbox.usage import Limits
from powercut.evals.tasks import TASKS
from tests.evals.graders.code.tricks import TRICKS

CHECK = "def check(candidate):\n    assert candidate([3, 4]) == 3\n    assert candidate([5]) == 5, 'five'\n"
QUESTION = "from typing import List\n\ndef first(xs: List[int]) -> int:\n"
OWN = Problem("own", QUESTION, "    return xs[0]\n", test=CHECK, entry_point="first")
BOX = LocalSandbox()


def grade(text, problem=OWN, execute=BOX):
    return asyncio.run(grade_code(problem, text, execute))


def function(body, check):
    """The grade of ``def first(*xs): body`` by checks of its own."""
    problem = Problem("own", "def first(*xs):\n", "", test=f"def check(candidate):\n    {check}\n", entry_point="first")
    return grade(f"    {body}\n", problem)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("    return xs[-1]\n", "AssertionError"),
        ("    return xs[0] if len(xs) > 1 else 0\n", "AssertionError: five"),
        ("    return ys\n", "NameError: name 'ys' is not defined"),
        ("    return (\n", "SyntaxError: '[(]' was never closed"),
        ("    import sys\n    sys.exit(0)\n", "it ended before the checks did"),
        ("    import os\n    os._exit(3)\n", "it ended with exit status 3"),
        ("    import ctypes\n    ctypes.string_at(0)\n", "it ended with exit status -11"),
        ("    return int(input())\n", "EOFError"),
        ("    class Own(Exception): pass\n    raise Own('mine')\n", "^Own: mine$"),
        ("    raise BaseException\n", "it ended with exit status 1"),
        ("I cannot do that.", "SyntaxError"),
        ("```python\ndef second(xs):\n    return xs[0]\n```", "NameError|AssertionError|AttributeError|SyntaxError"),
        ("    return xs[0]\0\n", "source code string cannot contain null bytes|SyntaxError"),
        ("    return '\ud800'\n", "surrogates|AssertionError"),
        ("", "no answer in the text"),
        ("(" * 100_000, "SyntaxError"),
        ("-" * 100_000 + "1", "MemoryError|RecursionError|SyntaxError"),
        ("    return " + "-" * 100_000 + "1", "MemoryError|RecursionError|SyntaxError"),
        ("```" * 30_000, "."),
        ("def " * 30_000, "."),
    ],
    ids=lambda text: text[:30],
)
def test_wrong_answers_have_a_reason(text, reason):
    verdict = grade(text)
    assert not verdict.correct
    assert re.search(reason, verdict.reason), verdict.reason


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("shut_in", [True, False])
def test_no_trick_passes(trick, shut_in, monkeypatch):
    if not shut_in:
        monkeypatch.setattr("powercut.evals.sandbox.local_sandbox.isolation", Isolation)
    verdict = grade(f"```python\n{TRICKS[trick]}\n```")
    assert not verdict.correct
    assert verdict.reason


@pytest.mark.parametrize(
    ("body", "check"),
    [
        ("xs[0].sort()", "x = [3, 1]; candidate(x); assert x == [1, 3]"),
        ("xs[0][0].append(1)", "inner = []; x = (inner,); candidate(x); assert inner == [1] and x[0] is inner"),
        ("xs[0].update(a=xs[0].pop('b'))", "x = dict(b=2); candidate(x); assert x == dict(a=2)"),
        ("xs[0].clear(); raise KeyError('gone')", "x = {1}\n    try: candidate(x)\n    except KeyError: assert not x"),
        ("return xs[0]", "x = (1, 2.5, 1j, b'x', 'y\\ud800', None, True); assert candidate(x) == x"),
        ("return xs[0]", "x = {(1, 2): [3], 'a': {4}, None: frozenset('b')}; assert candidate(x) == x"),
        ("return xs[0]", "assert candidate(float('inf')) == float('inf'); assert candidate(float('nan')) != 0"),
        ("return 10 ** 5000", "assert candidate() == 10 ** 5000"),
        ("return 0.1 + 0.2", "assert abs(candidate() - 0.3) < 1e-9; assert candidate() != 0.3"),
        ("return None", "assert candidate() is None"),
        ("return 1 < 2", "assert candidate() is True"),
        ("from fractions import Fraction; return Fraction(1, 2)", "assert candidate() == 0.5"),
        ("from decimal import Decimal; return Decimal('0.5')", "assert candidate() == 0.5"),
        ("from collections import Counter; return Counter('aab')", "assert candidate() == dict(a=2, b=1)"),
        ("from collections import namedtuple; return namedtuple('T', 'a b')(1, 2)", "assert candidate() == (1, 2)"),
        ("from enum import IntEnum; return IntEnum('E', 'A B').B", "assert candidate() == 2"),
        ("yield from [1, 2]", "assert list(candidate()) == [1, 2]; assert candidate() != [1, 2]"),
        (
            "import itertools; return itertools.count()",
            "import itertools as i; assert [*i.islice(candidate(), 3)] == [0, 1, 2]",
        ),
        ("return map(str, [1])", "assert next(candidate()) == '1'"),
        ("return range(3)", "assert candidate() == range(3)"),
        ("return {1: 2}.keys()", "assert candidate() == {1} and list(candidate()) == [1]"),
        ("return zip([1], [2])", "assert dict(candidate()) == {1: 2}"),
        (
            "int('x')",
            "try: candidate()\n    except ValueError as e: assert 'invalid literal' in str(e)\n    else: assert 0",
        ),
        ("b'\\xff'.decode()", "try: candidate()\n    except ValueError: pass\n    else: assert 0"),
        ("first.n = getattr(first, 'n', 0) + 1; return first.n", "assert (candidate(), candidate()) == (1, 2)"),
        ("print('x' * 100000); return 1", "assert candidate() == 1"),
        ("return xs", "assert candidate(*range(3)) == (0, 1, 2); assert first(1) == (1,)"),
    ],
)
def test_what_checks_see_is_what_they_would_see_in_one_process(body, check):
    assert function(body, check).reason is None


@pytest.mark.parametrize(
    ("body", "check"),
    [
        ("return object()", "assert candidate()"),
        ("return first", "assert candidate()"),
        ("x = []; x.append(x); return x", "assert candidate()"),
        ("return object()", "try: candidate()\n    except: pass"),
        ("import os; os._exit(0)", "try: candidate()\n    except: pass"),
    ],
)
def test_what_cannot_be_compared_does_not_pass(body, check):
    """Whatever the checks make of it."""
    verdict = function(body, check)
    assert re.search("it returned what cannot be compared|it ended before the checks did", verdict.reason)


def test_the_canonical_solutions_pass_the_judge():
    """And those that return nothing do not. All in one sandbox, which takes longer to start than a judge."""
    problems = TASKS["humaneval"].problems()
    answers = [(problem, problem.answer) for problem in problems] + [
        (problem, "    pass\n") for problem in problems[::8]
    ]
    rows = [(p.question + answer, p.entry_point, f"{given(p)}\n{p.test}") for p, answer in answers]
    program = f"""{bundle(confine, plain, judge, call="__name__")}
import sys
verdict_on = sys.modules[{judge.__name__!r}].verdict_on
for row in {rows!r}:
    print("passes" if verdict_on(*row, {_judged()!r}) == {{"reason": None}} else "fails")
"""
    run = LocalSandbox(Limits(seconds=300, wall_seconds=1000, files=10_000)).run(program)
    assert run.stdout.split() == ["passes"] * 164 + ["fails"] * 21, run.stderr[-500:]


def test_a_program_is_not_taken_for_the_main_one():
    text = "```python\ndef first(xs):\n    return xs[0]\n\nif __name__ == '__main__':\n    first([])\n```"
    assert grade(text).correct


def test_dataclasses_and_future_imports_work():
    text = """```python
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Box:
    head: int

def first(xs: list[int]) -> int:
    return Box(xs[0]).head
```"""
    assert grade(text).correct


def test_checks_that_cannot_be_run_are_an_error_and_no_wrong_answer():
    broken = Problem("own", QUESTION, "", test="import nothing_like_that\n" + CHECK, entry_point="first")
    with pytest.raises(PowercutError, match="the checks of problem own cannot be run: ModuleNotFoundError"):
        grade("    return xs[0]\n", broken)


def test_an_execution_elsewhere():
    """As Inspect's sandbox gives them: a container that ran out of time, ended, was killed, or has no Python."""

    def ended(*facts):
        async def execute(program):
            return Execution(*facts)

        return execute

    stopped = ended(None, "", "", "it ran longer than 10 s")
    assert grade(OWN.answer, execute=stopped).reason == "it ran longer than 10 s"
    assert grade(OWN.answer, execute=ended(137, "", "Killed")).reason == "its judge was killed"
    with pytest.raises(SandboxError, match="the judge of problem own failed: python3: not found"):
        grade(OWN.answer, execute=ended(127, "", "python3: not found"))
    with pytest.raises(SandboxError, match="failed"):
        grade(OWN.answer, execute=ended(0, json.dumps({"nonce": "another", "reason": None}), ""))
