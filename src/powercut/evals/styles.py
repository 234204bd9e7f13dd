"""How problems are put to a model: one Style for each kind of model, as data. A new one is one entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from powercut.errors import SettingError
from powercut.evals.problem import LETTERS, Problem
from powercut.text import Message

Kind = Literal["math", "choice", "code"]
"""What a problem asks for: something in a box, the letter of a choice, the rest of a function."""


@dataclass(frozen=True, slots=True)
class Style:
    """The texts around a problem.

    ``prompts`` has one for each kind, with ``{question}`` and, for choices, ``{choices}`` and ``{letters}`` in it.
    ``chat`` puts it into the model's chat template, behind ``system`` if there is one; otherwise the model continues
    the text as it is, and ``stop`` ends a completion that goes on to the next problem.
    """

    prompts: Mapping[Kind, str]
    chat: bool = True
    system: Mapping[Kind, str] = field(default_factory=dict)
    stop: Mapping[Kind, tuple[str, ...]] = field(default_factory=dict)


_BOX = r"Please reason step by step, and put your final answer within \boxed{{}}."
_CHOICES = "{question}\n\n{choices}\n\n"
_CODE = "Complete this Python function. Reply with the whole function in one block of code.\n\n```python\n{question}```"
_LETTER = r"Think step by step, and put the letter of the right choice ({letters}) within \boxed{{}}."

STYLES: dict[str, Style] = {
    "chat": Style(
        {
            "math": "{question}\n\nThink step by step, and put your final answer within \\boxed{{}}.",
            "choice": _CHOICES + _LETTER,
            "code": _CODE,
        }
    ),
    "base": Style(
        {
            "math": "Problem: {question}\n\nSolution, step by step, with the final answer within \\boxed{{}}:\n",
            "choice": "Question: " + _CHOICES + "Solution, step by step, with the letter of the right choice "
            "({letters}) within \\boxed{{}}:\n",
            "code": "{question}",
        },
        chat=False,
        stop={
            "math": ("\nProblem:",),
            "choice": ("\nQuestion:",),
            # what follows a function that is complete
            "code": ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\n```"),
        },
    ),
    # The instruction that these models were trained with.
    "qwen-math": Style(
        {"math": "{question}", "choice": _CHOICES + _LETTER, "code": _CODE},
        system={"math": _BOX.format()},
    ),
    "deepseek-r1": Style({"math": "{question}\n" + _BOX, "choice": _CHOICES + _LETTER, "code": _CODE}),
}
"""Every style by its name."""

KNOWN_MODELS: dict[str, str] = {
    "qwen2.5-math": "qwen-math",
    "qwen2-math": "qwen-math",
    "deepseek-r1": "deepseek-r1",
}
"""Styles of models whose name contains the text, small letters only."""


def choose_style(name: str | None, model: str = "", has_chat_template: bool = True) -> str:
    """The style called ``name``; None picks the known model's, else "chat" or "base" by whether there is a template.

    Raises SettingError for an unknown name, and for a style that chats where the model has no template.
    """
    if name is None:
        known = next((style for part, style in KNOWN_MODELS.items() if part in model.lower()), "chat")
        return known if has_chat_template else "base"
    if name not in STYLES:
        raise SettingError(f"there is no prompt style {name!r}: the styles are {', '.join(STYLES)}")
    if STYLES[name].chat and not has_chat_template:
        raise SettingError(f"the prompt style {name} needs a chat template and this model has none: use base")
    return name


def prompt_text(style: Style, kind: Kind, problem: Problem) -> str:
    """The problem as the user's message or as the text to continue."""
    lettered = list(zip(LETTERS, problem.choices, strict=False))
    return style.prompts[kind].format(
        question=problem.question,
        choices="\n".join(f"({letter}) {choice}" for letter, choice in lettered),
        letters=", ".join(letter for letter, _ in lettered),
    )


def make_prompt(style: Style, kind: Kind, problem: Problem) -> str | list[Message]:
    """The problem as chat messages, or as raw text for a style that does not chat (encode it with ``chat=False``)."""
    text = prompt_text(style, kind, problem)
    if not style.chat:
        return text
    system = style.system.get(kind)
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": text}]
