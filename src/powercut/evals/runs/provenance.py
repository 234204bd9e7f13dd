"""What a run was made with: the command, versions, the state of the user's repository."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from powercut.records import RunFacts
from powercut.versions import library_versions


def provenance(argv: Sequence[str]) -> RunFacts:
    """The facts of this process; ``argv`` is the command line, of which no password in a URL is kept."""
    return RunFacts(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        argv=tuple(re.sub("//[^/]*@", "//***@", word) for word in argv),
        powercut=version("powercut"),
        python=platform.python_version(),
        platform=platform.platform(),
        libraries=library_versions(),
        git=_git(),
    )


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
