"""What a program in the local sandbox can still reach: found out by trying. Imports nothing of ours.

``main`` runs there, and tells on standard output which of the things that powercut has laid out it got at.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable


def main(folder: str, port: int, datagrams: int, pid: int) -> None:
    """Try to get at files and a socket in a folder, at ports of this machine, and at the process ``pid``."""
    tries: dict[str, Callable[[], object]] = {
        "read": lambda: open(os.path.join(folder, "secret")).close(),
        "write": lambda: open(os.path.join(folder, "written"), "w").close(),
        "connect": lambda: socket.create_connection(("127.0.0.1", port), timeout=5).close(),
        "send": lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"+", ("127.0.0.1", datagrams)),
        "join": lambda: socket.socket(socket.AF_UNIX).connect(os.path.join(folder, "socket")),
        "signal": lambda: os.kill(pid, 0),
        "environment": lambda: open(f"/proc/{pid}/environ", "rb").close(),
    }
    reached = []
    for name, attempt in tries.items():
        try:
            attempt()
        except OSError:
            continue
        reached.append(name)
    print(json.dumps(reached))
