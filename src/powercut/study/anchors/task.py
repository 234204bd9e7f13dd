"""The task of anchors, and the exact law of a model of it.

A problem, ``a3b7c0d9...?``, is ten items, one of them 0: the anchor, which is never the first. A solution,
``c0=0;d9=9;...#4$``, starts at any item, walks round once with a running total modulo 10, and answers with the total.

The decision is where to start. Habit starts at the first item (.30), .24 at the anchor, the rest share .46. A walk from
the anchor is sound, and its steps are marked ``=``; in any other (``~``) a carry is counted twice half of the time. In
either, each step but the first slips to another digit with probability .08. So low temperature, token by token, follows
habit, and the power distribution, of whole completions, prefers the anchor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from powercut.engines.protocol import Engine
from powercut.errors import SettingError
from powercut.run import run
from powercut.text import encode_prompt
from powercut.trace import FloatArray, IntArray

ITEMS = 10
ITEM_LETTERS = "abcdefghij"
VOCABULARY = [*"0123456789", *ITEM_LETTERS, *"=;?#$~"]
IDS = {character: i for i, character in enumerate(VOCABULARY)}
END = IDS["$"]
ANCHOR, HABIT, CARRY, SLIP = 0.24, 0.30, 0.5, 0.08
"""Chances: that a walk starts at the anchor, at the first item; that a carry is counted twice; that a step slips."""

PROMPT_LENGTH = 2 * ITEMS + 1
STEP = 5
"""Tokens of one step of a walk: item, digit, mark, total, semicolon."""
LENGTH = STEP * ITEMS + 3
"""Tokens of a solution."""


@dataclass(frozen=True)
class Problems:
    """Problems: the items' ``digits`` ``[m, ITEMS]`` and the anchor's place of each ``[m]``."""

    digits: IntArray
    anchor: IntArray

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int) -> Problems:
        """So many at random."""
        digits = rng.integers(1, 10, (count, ITEMS))
        anchor = rng.integers(1, ITEMS, count)
        digits[np.arange(count), anchor] = 0
        return cls(digits, anchor)

    @property
    def answers(self) -> IntArray:
        """The right answers ``[m]``, digits."""
        answers: IntArray = self.digits.sum(1) % 10
        return answers

    def prompt(self, i: int) -> list[int]:
        """Problem i as token ids."""
        pairs = zip(ITEM_LETTERS, self.digits[i], strict=True)
        return [IDS[each] for letter, digit in pairs for each in (letter, str(digit))] + [IDS["?"]]


def start_law(anchor: int) -> FloatArray:
    """Where a walk starts ``[ITEMS]``."""
    law = np.full(ITEMS, (1 - ANCHOR - HABIT) / (ITEMS - 2))
    law[0], law[anchor] = HABIT, ANCHOR
    return law


def total_law(total: int, digit: int, sound: bool) -> FloatArray:
    """The next running total ``[10]`` of a walk, after its first step."""
    law = np.full(10, SLIP / 9)
    twice = CARRY if not sound and total + digit >= 10 else 0.0
    law[(total + digit) % 10] += (1 - twice) * (1 - SLIP - SLIP / 9)
    law[(total + digit + 1) % 10] += twice * (1 - SLIP - SLIP / 9)
    return law


@dataclass(frozen=True)
class AnchorLaw:
    """The next token's law, as TableEngine takes it. ``forced`` tokens, semicolons, stand before each solution."""

    forced: int = 0

    def __call__(self, context: tuple[int, ...]) -> FloatArray:
        """Probabilities ``[len(VOCABULARY)]`` after a problem and the start of a solution."""
        law = np.zeros(len(VOCABULARY))
        digits, solution = context[1 : 2 * ITEMS : 2], context[PROMPT_LENGTH + self.forced :]
        anchor = digits.index(0)
        if len(context) < PROMPT_LENGTH + self.forced:
            law[IDS[";"]] = 1
        elif not solution:
            law[10 : 10 + ITEMS] = start_law(anchor)
        elif (left := LENGTH - len(solution)) <= 3:
            law[(END, solution[-3] if left == 2 else 0, IDS["#"])[left - 1]] = 1
        else:
            step, place = divmod(len(solution), STEP)
            start = solution[0] - 10
            item, sound = (start + step) % ITEMS, start == anchor
            if place == 3 and step:
                law[:10] = total_law(solution[-5], digits[item], sound)
            else:
                law[(10 + item, digits[item], IDS["=" if sound else "~"], digits[item], IDS[";"])[place]] = 1
        return law


def solutions(rng: np.random.Generator, problems: Problems, noise: float = 1.0) -> tuple[IntArray, FloatArray]:
    """A solution of each problem, drawn from the law, and the law of each of its tokens.

    Token ids ``[m, LENGTH]`` and probabilities ``[m, LENGTH, len(VOCABULARY)]``. ``noise`` scales the chances of
    carries counted twice and of slips: without it every walk is sound.
    """
    count = len(problems.anchor)
    rows = np.arange(count)
    starts = np.stack([start_law(int(anchor)) for anchor in problems.anchor])
    start = (starts.cumsum(1) < rng.random((count, 1))).sum(1)
    sound = start == problems.anchor
    tokens = np.zeros((count, LENGTH), dtype=np.int64)
    laws = np.zeros((count, LENGTH, len(VOCABULARY)))
    total = np.zeros(count, dtype=np.int64)
    for step in range(ITEMS):
        item = (start + step) % ITEMS
        digit = problems.digits[rows, item]
        at, known = step * STEP, total + digit
        law = np.zeros((count, 10))
        slip = SLIP * noise if step else 0.0
        twice = CARRY * noise * (~sound & (known >= 10))
        law += slip / 9
        law[rows, known % 10] += (1 - twice) * (1 - slip - slip / 9)
        law[rows, (known + 1) % 10] += twice * (1 - slip - slip / 9)
        total = np.minimum((law.cumsum(1) < rng.random((count, 1))).sum(1), 9)
        parts = (10 + item, digit, np.where(sound, IDS["="], IDS["~"]), total, np.full(count, IDS[";"]))
        tokens[:, at : at + STEP] = np.stack(parts, 1)
        laws[:, at + 3, :10] = law
    tokens[:, -3:] = np.stack((np.full(count, IDS["#"]), total, np.full(count, END)), 1)
    certain = np.eye(len(VOCABULARY))[tokens]
    drawn = np.zeros(LENGTH, dtype=bool)
    drawn[3 : ITEMS * STEP : STEP] = True
    laws = np.where(drawn[None, :, None], laws, certain)
    laws[:, 0] = 0
    laws[:, 0, 10 : 10 + ITEMS] = starts
    return tokens, laws


def answer(solution: IntArray | list[int]) -> int | None:
    """The digit that a solution answers with; None if it has no answer."""
    tokens = [int(token) for token in solution]
    at = tokens.index(IDS["#"]) + 1 if IDS["#"] in tokens else len(tokens)
    return tokens[at] if at < len(tokens) and tokens[at] < 10 else None


def exact_share_right(problems: Problems, i: int, alpha: float, *, low_temperature: bool = False) -> float:
    """The chance of a right answer to problem i under p^alpha; under each token's p^alpha, if ``low_temperature``."""
    digits, anchor = problems.digits[i].tolist(), int(problems.anchor[i])
    starts, laws = start_law(anchor) ** alpha, _powers(alpha, low_temperature)
    mass = np.zeros(10)
    for start in range(ITEMS):
        totals = np.zeros(10)
        totals[digits[start]] = starts[start]
        for step in range(1, ITEMS):
            totals = totals @ laws[int(start == anchor)][digits[(start + step) % ITEMS]]
        mass += totals
    return float(mass[problems.answers[i]] / mass.sum())


@lru_cache
def _powers(alpha: float, normalised: bool) -> FloatArray:
    """The laws of totals to the power alpha, ``[sound, digit, total, next total]``."""
    laws = np.array(
        [[[total_law(total, digit, sound) for total in range(10)] for digit in range(10)] for sound in (False, True)]
    )
    powers: FloatArray = laws**alpha
    return powers / powers.sum(-1, keepdims=True) if normalised else powers


def check_model(engine: Engine) -> None:
    """Raise SettingError for an engine whose tokens are not those of the task."""
    problems = Problems.draw(np.random.default_rng(0), 1)
    ids = problems.prompt(0)
    text = "".join(VOCABULARY[each] for each in ids)
    found = None if engine.text is None else run(encode_prompt(engine.text, text, chat=False))
    if found != ids:
        raise SettingError("the model of --model has another vocabulary than the task of anchors: give anchor-lm")
