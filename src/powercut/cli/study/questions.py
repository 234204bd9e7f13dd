"""What a study asks a model, prompts or a task's problems, and how the answer in a completion of each is found."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer

from powercut.cli.options import PROMPTS_PANEL
from powercut.cli.prompts import read_prompts
from powercut.engines.protocol import Engine
from powercut.errors import SettingError
from powercut.evals.problem import Grade
from powercut.evals.runs.benchmarks import Benchmark, load_benchmarks
from powercut.evals.styles import STYLES, Style, choose_style, make_prompt
from powercut.evals.tasks import TASKS
from powercut.prompt import Prompt, TemplateArgs
from powercut.samplers.settings import check_number
from powercut.text import encode_prompt
from powercut.trace import IntArray

NUMBER = r"-?\d[\d,]*(?:\.\d+)?"

PromptArgument = Annotated[str | None, typer.Argument(help="What to complete.", show_default=False)]
FileFlag = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Many prompts, as powercut sample takes them (- is stdin).",
        rich_help_panel=PROMPTS_PANEL,
    ),
]
AnswerFlag = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="What an answer looks like in the text; its last match counts, or that of its first group. "
        "Default: a number.",
        rich_help_panel=PROMPTS_PANEL,
    ),
]
_TASKS = [name for name, task in TASKS.items() if not task.runs_code]
TaskFlag = Annotated[
    str | None,
    typer.Option(
        metavar="TASK",
        help=f"In place of prompts the problems of a task, whose grader finds the answers: {', '.join(_TASKS)}.",
        rich_help_panel=PROMPTS_PANEL,
    ),
]
DataFlag = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="The task's problems, as JSON or JSON lines.", rich_help_panel=PROMPTS_PANEL),
]
LimitFlag = Annotated[
    int | None, typer.Option(help="The first so many prompts or problems. Default: all.", rich_help_panel=PROMPTS_PANEL)
]


@dataclass(frozen=True, kw_only=True)
class Questions:
    """``asked`` prompts, or with a ``bench`` its problems in a prompt ``style`` (None: what the model was made for).

    ``extract`` finds the answer in a text, where there is no task that does.
    """

    asked: Sequence[Prompt]
    bench: Benchmark | None
    style: str | None
    extract: Callable[[str], str | None]
    chat: bool | None
    template_args: TemplateArgs | None

    def __len__(self) -> int:
        return len(self.asked if self.bench is None else self.bench.problems)

    @property
    def graded(self) -> bool:
        """Whether it is known which answer is right."""
        return self.bench is not None

    def what(self, model: str | None) -> str:
        """Them and the model, in a caption."""
        of = "prompts" if self.bench is None else f"problems of {self.bench.name}"
        return f"{len(self):,} {of if len(self) > 1 else of.replace('s', '', 1)}; {model or 'the bundled model'}"

    def grade(self, number: int, text: str) -> Grade:
        """The answer in a completion of one of them, and whether it is right; it may block."""
        if self.bench is None:
            return Grade(False, self.extract(text))
        assert self.bench.task.grade is not None
        return self.bench.task.grade(self.bench.problems[number], text)

    def answer(self, number: int, text: str) -> str | None:
        """The answer in a completion of one of them, None if there is none; it may block."""
        return self.grade(number, text).answer

    async def encode(self, engine: Engine) -> list[IntArray]:
        """Token ids of each. Raises SettingError for what the model cannot be asked so."""
        chat, several = self.chat, list(self.asked)
        if self.bench is not None:
            style, kind = self._style(engine), self.bench.task.kind
            several = [make_prompt(style, kind, problem) for problem in self.bench.problems]
            chat = None if kind in style.chat else False
        encoded = [
            await encode_prompt(engine.text, each, chat=chat, template_args=self.template_args) for each in several
        ]
        return [np.array(tokens, dtype=np.int64) for tokens in encoded]

    def stops(self, engine: Engine) -> tuple[str, ...]:
        """The texts with which the prompt style has a completion end."""
        return () if self.bench is None else self._style(engine).stop.get(self.bench.task.kind, ())

    def _style(self, engine: Engine) -> Style:
        return STYLES[choose_style(self.style, engine.name, getattr(engine.text, "has_chat_template", False))]


def read_questions(
    prompt: str | None,
    file: str | None,
    task: str | None,
    data: str | None,
    limit: int | None,
    style: str | None,
    answer: str | None,
    chat: bool | None,
    args: TemplateArgs | None,
) -> Questions:
    """The questions that a command was given. Raises SettingError, with the remedy, for what does not go together."""
    if limit is not None:
        check_number("--limit", limit, 1, whole=True)
    if task is None:
        for name, value in (("--data", data), ("--style", style)):
            if value is not None:
                raise SettingError(f"{name} is for a task: give --task, or leave it out")
        asked = [each.prompt for each in read_prompts(prompt, file)[:limit]]
        extract = extractor(NUMBER if answer is None else answer)
        return Questions(asked=asked, bench=None, style=None, extract=extract, chat=chat, template_args=args)
    others = {"PROMPT": prompt, "--file": file, "--answer": answer, "--chat/--raw": chat}
    for name, found in others.items():
        if found is not None:
            raise SettingError(f"{name} has no place beside --task, which says what is asked and what an answer is")
    if task in TASKS and task not in _TASKS:
        raise SettingError(f"{task} has no answer to be found in a text: the tasks are {', '.join(_TASKS)}")
    [bench] = load_benchmarks([task], [] if data is None else [data], limit, None)
    if style is not None:
        choose_style(style)
    return Questions(asked=(), bench=bench, style=style, extract=extractor(NUMBER), chat=None, template_args=args)


def told(questions: Questions, answer: str | None) -> dict[str, Any]:
    """The questions as settings of a study."""
    if questions.bench is None:
        own: dict[str, Any] = {"prompts": list(questions.asked), "answer": answer or NUMBER, "chat": questions.chat}
    else:
        problems = [problem.id for problem in questions.bench.problems]
        own = {"task": questions.bench.name, "problems": problems, "style": questions.style}
        own["data"] = questions.bench.data and questions.bench.data["sha256"]
    return own | {"template_args": questions.template_args}


def extractor(pattern: str) -> Callable[[str], str | None]:
    """What finds the last match of ``pattern``, or of its first group; None where a text has none.

    Raises SettingError for what is no regular expression.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise SettingError(f"--answer is no regular expression: {error}") from None

    def extract(text: str) -> str | None:
        found = list(compiled.finditer(text))
        return (found[-1][1] if compiled.groups else found[-1][0]) if found else None

    return extract
