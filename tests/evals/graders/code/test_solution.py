"""The program in a completion: HumanEval's own solutions, in every way in which models write them, all pass."""

import textwrap

import pytest

from powercut.evals.graders.code.solution import solution
from powercut.evals.problem import Problem
from powercut.evals.sandbox.local_sandbox import LocalSandbox
from powercut.evals.sandbox.usage import Limits
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
    """The numbers of the programs whose function passes the problem's checks, run one after the other in a sandbox."""
    rows = [
        (f"{program}\n{problem.test}", problem.entry_point)
        for problem, program in zip((OWN, *HUMANEVAL), programs, strict=True)
    ]
    batch = textwrap.dedent(f"""
        import contextlib, io
        for number, (program, name) in enumerate({rows!r}):
            with contextlib.suppress(BaseException):
                with contextlib.redirect_stdout(io.StringIO()):
                    values = {{}}
                    exec(compile(program, "program", "exec"), values)
                    values["check"](values[name])
                print(number, end=" ")
    """)
    run = LocalSandbox(Limits(seconds=100, wall_seconds=300)).run(batch)
    assert run.returncode == 0, run.stderr[-300:]
    return [int(number) for number in run.stdout.split()]


@pytest.mark.parametrize("form", FORMS)
def test_all_canonical_solutions_pass(form):
    assert len(HUMANEVAL) == 164
    assert passing([solution(p, FORMS[form](p)) for p in (OWN, *HUMANEVAL)]) == list(range(165))


@pytest.mark.parametrize("body", ["    pass\n", "    return None\n", "    raise NotImplementedError\n"])
def test_no_stub_passes(body):
    assert passing([solution(p, body) for p in (OWN, *HUMANEVAL)]) == []


@pytest.mark.parametrize("text", ["", " \n\n", "```python\n```", "    \n" * 30_000])
def test_nothing_is_no_program(text):
    assert solution(OWN, text) is None


def test_a_question_without_the_function():
    """Its text is no program: the answer is one by itself."""
    prose = Problem("own", "Write first.", "", entry_point="first")
    assert solution(prose, "```python\ndef first(xs):\n    return xs[0]\n```").split() == [
        "def",
        "first(xs):",
        "return",
        "xs[0]",
    ]


@pytest.mark.parametrize("text", ['```"' * 30_000, "x\n" * 30_000 + "def first(xs):\n", "def first(x):\n  (\n" * 3000])
def test_hostile_texts_end(text):
    """What is read of one text is bounded."""
    assert isinstance(solution(OWN, text), str)
