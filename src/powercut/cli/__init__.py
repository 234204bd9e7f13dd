"""The command line: one file per command, and what commands share."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for bad input, 1 for other failures, 130 after Ctrl-C.

    Without ``argv`` the process is this command's own, and Ctrl-C is one line also while it imports and while it ends.
    """
    own = argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if own and threading.current_thread() is threading.main_thread():
        return _main()
    from powercut.cli.app import run_command

    return run_command(sys.argv[1:] if argv is None else argv)


def _main() -> int:
    signal.signal(signal.SIGINT, _leave)
    codes: list[int] = []
    atexit.register(_exit, codes)  # the last to be called, being the first to be registered
    from powercut.cli.app import run_command

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        codes.append(run_command(sys.argv[1:]))
    except KeyboardInterrupt:
        _leave()
    finally:
        signal.signal(signal.SIGINT, _leave)
    return codes[-1]


def _exit(codes: list[int]) -> None:
    """Keep the exit code 130: Python, once KeyboardInterrupt has passed certain of its calls, ends by a signal."""
    if codes and codes[-1] == _INTERRUPTED:
        os._exit(_INTERRUPTED)


def _leave(*_: object) -> NoReturn:
    try:
        os.write(2, b"interrupted\n")
    finally:
        os._exit(_INTERRUPTED)
