"""What this machine has to shut a program in: bubblewrap, else the namespaces of util-linux, else nothing."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from powercut.evals.sandbox.confine import READABLE


@dataclass(frozen=True, slots=True)
class Isolation:
    """``command`` goes in front of another, FOLDER in it stands for the program's; ``processes`` are what it adds."""

    command: Sequence[str] = ()
    processes: int = 0

    def around(self, folder: str, command: Sequence[str]) -> list[str]:
        """The whole command line."""
        return [folder if word == _FOLDER else word for word in self.command] + list(command)


_FOLDER = "FOLDER"
_BUBBLEWRAP = Isolation(
    (
        *("bwrap", "--unshare-all", "--unshare-user", "--die-with-parent", "--proc", "/proc", "--dev", "/dev"),
        *(word for path in READABLE for word in ("--ro-bind-try", path, path)),
        *("--bind", _FOLDER, _FOLDER, "--chdir", _FOLDER, "--remount-ro", "/dev", "--remount-ro", "/", "--"),
    ),
    processes=2,
)
_UNSHARE = ("unshare", "--user", "--map-root-user", "--net", "--ipc", "--pid", "--fork", "--kill-child")
_KINDS = (
    _BUBBLEWRAP,
    Isolation((*_UNSHARE, "--mount", "--mount-proc", "--"), processes=1),
    Isolation((*_UNSHARE, "--"), processes=1),  # in a container, whose /proc is not its own
)


@functools.cache
def isolation() -> Isolation:
    """The first of them that works here; they take away the network, and end whatever a program started with it."""
    for kind in _KINDS:
        if (found := shutil.which(kind.command[0])) and _works(kind):
            return Isolation((found, *kind.command[1:]), kind.processes)
    return Isolation()


def _works(kind: Isolation) -> bool:
    command = kind.around(tempfile.gettempdir(), ["true"])
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
