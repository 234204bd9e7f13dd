"""Starts a program in the local sandbox and stays until it is killed. Imports nothing of ours but ``confine``.

Standard input is a socket to powercut. From there come the length of the program in bytes on a line and the program;
back go READY, and once the program has ended a line with its exit status, or NEVER_BEGUN. What the program leaves
behind is a descendant of this process even then, for powercut to find.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from powercut.evals.sandbox.confine import adopt, confine, keep_from_others

READY = b"ready\n"
NEVER_BEGUN = b"never begun\n"


def main(folder: str, limits: dict[str, float]) -> None:
    """Run the program in ``folder`` under the system's ``limits``, by their names in ``resource``."""
    control = socket.socket(fileno=0)
    control.sendall(READY)
    with control.makefile("rb") as stream:
        length = stream.readline()
        if not length:  # powercut has ended
            return
        program = stream.read(int(length))
    adopt()
    begun, begin = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(begun)
        control.detach()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _limit(limits)
        confine(folder)
        os.write(begin, b"+")
        os.close(begin)
        # here and not in a new process, which would have to find Python again
        exec(compile(program, "program.py", "exec"), {"__name__": "__main__"})
        return
    keep_from_others()  # the program's text is in this memory too
    os.close(begin)
    status = 0
    while True:
        ended, status = os.wait()  # those that it adopted end here too
        if ended == child:
            break
    code = os.waitstatus_to_exitcode(status)
    control.sendall(f"{code}\n".encode() if os.read(begun, 1) else NEVER_BEGUN)
    while control.recv(1):
        pass


def _limit(limits: dict[str, float]) -> None:
    import resource

    for name, value in limits.items():
        kind: Any = getattr(resource, f"RLIMIT_{name}", None)
        if kind is None:  # not on this system
            continue
        hard = resource.getrlimit(kind)[1]
        most = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        try:
            resource.setrlimit(kind, (most, most))
        except (OSError, ValueError):  # macOS has some that cannot be set
            continue


def begin() -> None:
    """Read the settings that this program is started with."""
    import json

    main(**json.loads(sys.argv[1]))
