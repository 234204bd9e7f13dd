"""How problems are put to a model: one Style for each kind of model, as data. A new one is one entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from powercut.errors import SettingError, did_you_mean
from powercut.evals.problem import LETTERS, Problem
from powercut.prompt import Message

Kind = Literal["math", "choice", "code"]
"""What a problem asks for: something in a box, the letter of a choice, the rest of a function."""


@dataclass(frozen=True, slots=True)
class Style:
    """The texts around a problem.

    ``prompts`` has one for each kind, with ``{question}`` and, for choices, ``{choices}`` and ``{letters}`` in it.
    The kinds in ``chat`` go into the model's chat template, behind ``system`` if there is one; for the others the model
    continues the text as it is. ``stop`` ends a completion that goes on to the next problem. ``choice`` is how one
    choice is written, and ``reshuffle`` orders the choices anew for each seed.
    """

    prompts: Mapping[Kind, str]
    chat: frozenset[Kind] = frozenset(("math", "choice", "code"))
    system: Mapping[Kind, str] = field(default_factory=dict)
    stop: Mapping[Kind, tuple[str, ...]] = field(default_factory=dict)
    choice: str = "({letter}) {text}"
    reshuffle: bool = False


_BOX = r"Please reason step by step, and put your final answer within \boxed{{}}."
_CHOICES = "{question}\n\n{choices}\n\n"
_CODE = "Complete this Python function. Reply with the whole function in one block of code.\n\n```python\n{question}```"
# As published with arXiv 2605.30327. Its texts were not formatted, so that these models see doubled braces.
_PAPER = Style(
    {
        "math": "Can you solve the following math problem? Please reason step by step, and put your final answer "
        "within \\boxed{{{{}}}}.\n\n{question}\n\nRemember to present your final answer within \\boxed{{{{}}}}!",
        "choice": "Answer the following multiple choice question. The last line of your response should be of the "
        "following format: '\\boxed{{$LETTER}}' (without quotes) where LETTER is one of {joined}. Think step by step "
        "before answering.\n\n{question}\n\n{choices}",
        "code": "{question}",
    },
    chat=frozenset(),
    stop={
        "code": (
            "\nclass",
            "\ndef",
            "\n#",
            "\nif",
            "\nprint",
            "\nassert",
            "\nimport",
            "\nfrom",
            "\n```",
            "if __name__",
        )
    },
    choice="{letter}) {text}",
    reshuffle=True,
)
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
        chat=frozenset(),
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
    "paper": _PAPER,
    "paper-chat": replace(_PAPER, chat=frozenset(("math", "choice")), system={"math": "You are an AI math expert."}),
}
"""Every style by its name."""

KNOWN_MODELS: dict[str, str] = {
    "qwen2.5-math": "qwen-math",
    "qwen2-math": "qwen-math",
    "deepseek-r1": "deepseek-r1",
}
"""Styles of models whose name contains the text, small letters only."""

_PAPER_CHATS = "phi"
"""In the published runs models of this name had their chat template; all others got raw text."""


def choose_style(name: str | None, model: str = "", has_chat_template: bool = True) -> str:
    """The style called ``name``; None picks the known model's, else "chat" or "base" by whether there is a template.

    "paper" is as published for this model: its chat template for Phi, raw text for all others.

    Raises SettingError for an unknown name, and for a style that chats where the model has no template.
    """
    if name is None:
        known = next((style for part, style in KNOWN_MODELS.items() if part in model.lower()), "chat")
        return known if has_chat_template else "base"
    if name == "paper" and _PAPER_CHATS in model.lower():
        name = "paper-chat"
    if name not in STYLES:
        raise SettingError(
            f"there is no prompt style {name!r}{did_you_mean(name, STYLES)}: the styles are {', '.join(STYLES)}"
        )
    if STYLES[name].chat and not has_chat_template:
        raise SettingError(f"the prompt style {name} needs a chat template and this model has none: use base")
    return name


def prompt_text(style: Style, kind: Kind, problem: Problem) -> str:
    """The problem as the user's message or as the text to continue."""
    lettered = list(zip(LETTERS, problem.choices, strict=False))
    letters = [letter for letter, _ in lettered]
    return style.prompts[kind].format(
        question=problem.question,
        choices="\n".join(style.choice.format(letter=letter, text=choice) for letter, choice in lettered),
        letters=", ".join(letters),
        joined="".join(letters),
    )


def make_prompt(style: Style, kind: Kind, problem: Problem) -> str | list[Message]:
    """The problem as chat messages, or as raw text for a style that does not chat (encode it with ``chat=False``)."""
    text = prompt_text(style, kind, problem)
    if kind not in style.chat:
        return text
    system = style.system.get(kind)
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": text}]
