"""HumanEval: every way in which a model may write a right function passes, and a wrong one does not."""

import asyncio
import re
import textwrap

import pytest

from powercut.evals.graders.code.grade import PASSED, Execution, check_program, grade_code
from powercut.evals.graders.code.solution import solution
from powercut.evals.problem import Problem
from powercut.evals.runs.local_sandbox import Limits, LocalSandbox
from powercut.evals.tasks import TASKS

OWN = Problem(
    "own",
    'from typing import List\n\n\ndef first(xs: List[int]) -> int:\n    """The first of xs.\n\n    >>> first([3])\n'
    '    3\n    """\n',
    "    head = xs[0]\n    return head\n",
    test="def check(candidate):\n    assert candidate([3, 4]) == 3\n    assert candidate([5]) == 5, 'five'\n",
    entry_point="first",
)
HUMANEVAL = TASKS["humaneval"].problems()


def using(problem, line):
    """The whole function, with another line in front of its body."""
    return f"{problem.question}    {line}\n{problem.answer}"


MARGIN = "_ = '''a\nb c'''"
FENCED = "_ = '''\n```python\nx\n```\n'''"

FORMS = {
    "a continuation": lambda p: p.answer,
    "a continuation and a fence": lambda p: f"{p.answer}```\n\nThis works because ...",
    "a continuation and a second function": lambda p: f"{p.answer}\n\ndef {p.entry_point}(x):\n    return (",
    "a continuation, tests and prose": lambda p: f"{p.answer}\nprint({p.entry_point})\nNow you try.",
    "the signature again": lambda p: p.question + p.answer,
    "the signature again, in prose": lambda p: f"Here it is:\n\n{p.question}{p.answer}\nIt takes the first.",
    "a fenced function": lambda p: f"Sure!\n```python\n{p.question}{p.answer}```\nIt works.",
    "a fenced function, not closed": lambda p: f"Sure!\n```python\n{p.question}{p.answer}",
    "a fenced body": lambda p: f"```\n{p.answer}```",
    "a fenced, indented function": lambda p: (
        "1. Like so:\n   ```py\n" + textwrap.indent(p.question + p.answer, "   ") + "   ```\n"
    ),
    "two fences": lambda p: f"```python\n{p.question}{p.answer}```\nTry it:\n```python\nprint(1)\n```",
    "a constant in front of the function, used in it": lambda p: f"```python\nLIMIT = 9\n\n{using(p, '_ = LIMIT')}```",
    "two names assigned at once behind an import": lambda p: (
        f"```python\nimport math\nLOW, HIGH = 0, 1\n\n{p.question}{p.answer}```"
    ),
    "an assert between two functions": lambda p: (
        f"```python\ndef same(x):\n    return x\n\nassert same(1) == 1\n\n{p.question}{p.answer}```"
    ),
    "text at the margin inside a string": lambda p: f"```python\n{using(p, MARGIN)}```",
    "a continuation with text at the margin inside a string": lambda p: f"    {MARGIN}\n{p.answer}",
    "a closing fence without an opening one": lambda p: f"{p.question}{p.answer}```\nThis works.",
    "the closing fence behind the last line": lambda p: f"```python\n{p.question}{p.answer.rstrip()}```",
    "a first line that lost one of its 4 spaces": lambda p: p.answer[1:],
    "a first line with one space too many": lambda p: " " + p.answer,
    "the body at 8": lambda p: textwrap.indent(p.answer, "    "),
    "the signature shown again in a second fence": lambda p: (
        f"```python\n{p.question}{p.answer}```\nThe signature was:\n```python\n{p.question}    ...\n```"
    ),
    "no fence, and prose that begins with 'for example'": lambda p: f"{p.question}{p.answer}\nfor example, it works.",
    "prose that parses": lambda p: f"Done\n\n{p.question}{p.answer}\nNote: good\n\nIt is, I think, right.",
    "a fence in a string": lambda p: f"```python\n{using(p, FENCED)}```\nIt works.",
    "a word of prose after a space, and a fence": lambda p: f" Solution\n```python\n{p.question}{p.answer}```",
    "a helper in a fence of its own": lambda p: (
        f"First:\n```python\nimport math as m\ndef same(x):\n    return m.floor(x)\n```\nthen:\n"
        f"```python\n{using(p, '_ = same(1)')}```\nfor example\n```\nsame = fail()\n```"
    ),
    "a helper behind a continuation": lambda p: (
        f"    _ = same(1)\n{p.answer}\n\ndef same(x):\n    return x\n\nprint(fail())"
    ),
    "the first try, and a better one": lambda p: (
        f"```python\n{p.question}    return None\n```\nWait.\n```python\n{p.question}{p.answer}```"
    ),
    "a body in tabs": lambda p: p.answer.replace("    ", "\t"),
    "lines that end as on Windows": lambda p: f"```python\n{p.question}{p.answer}```".replace("\n", "\r\n"),
    "cut off behind the function": lambda p: f"```python\n{p.question}{p.answer}\n\nassert {p.entry_point}(",
    "a body without its last line end": lambda p: p.answer.rstrip("\n"),
    "the first indentation lost": lambda p: p.answer.lstrip(),
}


def passing(programs):
    """The numbers of the programs that print PASSED, run one after the other in one sandbox."""
    batch = textwrap.dedent(f"""
        import io, sys
        out, err = sys.stdout, sys.stderr
        for number, program in enumerate({programs!r}):
            sys.stdout = said = io.StringIO()
            try:
                exec(compile(program, "check", "exec"), {{}})
            except BaseException:
                pass
            if said.getvalue().endswith({PASSED!r} + "\\n"):
                out.write(f"{{number}} ")
    """)
    run = LocalSandbox(Limits(wall_seconds=300)).run(batch)
    assert run.returncode == 0, run.stderr[-300:]
    return [int(number) for number in run.stdout.split()]


@pytest.mark.parametrize("form", FORMS)
def test_all_canonical_solutions_pass(form):
    assert len(HUMANEVAL) == 164
    programs = [check_program(p, solution(p, FORMS[form](p))) for p in (OWN, *HUMANEVAL)]
    assert passing(programs) == list(range(165))


@pytest.mark.parametrize(
    "body", ["    pass\n", "    return None\n", "    raise NotImplementedError\n", "    exit(0)\n"]
)
def test_no_stub_passes(body):
    assert passing([check_program(p, solution(p, body)) for p in (OWN, *HUMANEVAL)]) == []


def grade(text, problem=OWN, limits=None):
    return asyncio.run(grade_code(problem, text, LocalSandbox(limits)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("    return xs[-1]\n", "AssertionError"),
        ("    return xs[0] if len(xs) > 1 else 0\n", "AssertionError: five"),
        ("    return ys\n", "NameError: name 'ys' is not defined"),
        ("    return (\n", "SyntaxError: '[(]' was never closed"),
        ("    import sys\n    sys.exit(0)\n", "it ended before the checks did"),
        ("    import os\n    os._exit(3)\n", "it ended with exit status 3"),
        ("    return int(input())\n", "EOFError"),
        ("I cannot do that.", "SyntaxError"),
        ("```python\ndef second(xs):\n    return xs[0]\n```", "NameError|AssertionError|KeyError|SyntaxError"),
        ("    return xs[0]\0\n", "source code string cannot contain null bytes|SyntaxError"),
        ("    return '\ud800'\n", "surrogates|AssertionError"),
        ("", "no answer in the text"),
        (" \n\n", "no answer in the text"),
        ("```python\n```", "no answer in the text"),
        ("(" * 100_000, "SyntaxError"),
        ("-" * 100_000 + "1", "MemoryError|RecursionError|SyntaxError"),
        ("    return " + "-" * 100_000 + "1", "MemoryError|RecursionError|SyntaxError"),
        ("```" * 30_000, "."),
        ("def " * 30_000, "."),
        ("    \n" * 30_000, "no answer in the text"),
    ],
    ids=lambda text: text[:30],
)
def test_wrong_answers_have_a_reason(text, reason):
    verdict = grade(text)
    assert not verdict.correct
    assert re.search(reason, verdict.reason), verdict.reason


def test_a_program_is_not_taken_for_the_main_one():
    text = "```python\ndef first(xs):\n    return xs[0]\n\nif __name__ == '__main__':\n    first([])\n```"
    assert grade(text).correct


def test_what_a_program_prints_does_not_matter():
    assert grade(f"    print({PASSED!r})\n    print('x' * 1000)\n    return xs[0]\n").correct
    assert not grade(f"    print({PASSED!r})\n    return xs[-1]\n").correct


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


def test_an_execution_elsewhere():
    """As Inspect's sandbox gives them: a container that ended with a status, or ran out of time."""

    async def stopped(program):
        return Execution(None, "", "", "it ran longer than 10 s")

    async def silent(program):
        return Execution(0, f"\n{PASSED}\n", "")

    assert asyncio.run(grade_code(OWN, OWN.answer, stopped)).reason == "it ran longer than 10 s"
    assert asyncio.run(grade_code(OWN, OWN.answer, silent)).correct
