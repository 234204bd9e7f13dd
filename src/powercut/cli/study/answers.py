"""The answer in a text, by a regular expression from the command line."""

from __future__ import annotations

import re
from collections.abc import Callable

from powercut.errors import SettingError


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
