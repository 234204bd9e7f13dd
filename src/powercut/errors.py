"""What goes wrong for a user: one line that names the setting and the remedy."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable

_INVISIBLE = re.compile(
    r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, marks that turn the direction of writing, and halves of characters."""

_LONGEST_QUOTE = 100


class PowercutError(Exception):
    """Base of every error that powercut raises on purpose; its text is one line for the user."""


class SettingError(PowercutError, ValueError):
    """A setting or an input that cannot be used; the text names it and says what to give instead."""


class PromptError(SettingError):
    """One of several prompts cannot be used, the one at ``index``, for ``reason``."""

    def __init__(self, index: int, reason: SettingError) -> None:
        super().__init__(f"prompt {index}: {reason}")
        self.index, self.reason = index, reason


class ContextLengthError(SettingError):
    """A prompt and the completion asked for, which are together longer than the model's context."""


class EngineError(PowercutError, RuntimeError):
    """An engine that cannot be loaded, or that failed while decoding."""


class BudgetError(PowercutError):
    """A completion that was not started because the tokens allowed for the run were spent."""


def one_line(error: BaseException | str, limit: int = 240) -> str:
    """Put an error's text on one line of at most ``limit`` characters; its class name where it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3].rstrip() + "..."


def quoted(value: object) -> str:
    """A value as Python writes it, for a message: on one line, cut off, and a number of many digits by their count."""
    if isinstance(value, int) and abs(value) >= 10**30:  # beyond 4,300 digits Python refuses to write it
        return f"one of {int(math.log10(abs(value))) + 1} digits"
    try:
        return one_line(repr(value), _LONGEST_QUOTE)
    except (ValueError, RecursionError):  # such a number inside it, or lists without end
        return f"one of type {type(value).__name__}"


def visible(text: str) -> str:
    """``text`` with JSON's escapes for control characters, which act on a terminal, and for lone surrogates.

    Line ends and tabs stay.
    """
    return _INVISIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean NAME?)`` for the ``known`` word nearest to ``word``; empty where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
