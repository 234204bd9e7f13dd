"""The answer in a text, where the sampler that drew it was not told how to find one."""

from __future__ import annotations

import re

_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def last_answer(text: str) -> str | None:
    r"""What stands in the last ``\boxed{}`` of a text, else its last number; None where it has neither."""
    found = _BOXED.findall(text) or _NUMBER.findall(text)
    return found[-1].strip().rstrip(",") if found else None
