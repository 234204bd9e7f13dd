"""``powercut eval`` with a small table model, which kills itself (SIGKILL) at a chosen write.

Run as a program: ``python -m tests.evals.killed WRITE HOW ARGUMENTS``. At the WRITE-th time that something is to be
synced to the disk it dies, HOW says when: ``before`` or ``after`` the sync, or ``torn``, with half of the write done.
"""

from __future__ import annotations

import itertools
import os
import signal
import stat
import sys

import powercut
from powercut.cli import main
from tests.cli import fake


def die_at(write: int, how: str) -> None:
    calls = itertools.count(1)
    sync = os.fsync

    def fsync(file: object) -> None:
        last = next(calls) == write
        if last and how == "after":
            sync(file)
        if last:
            descriptor = file if isinstance(file, int) else file.fileno()
            status = os.fstat(descriptor)
            if how == "torn" and stat.S_ISREG(status.st_mode) and status.st_size > 40:  # a folder cannot be torn
                os.ftruncate(descriptor, status.st_size - 40)
            os.kill(os.getpid(), signal.SIGKILL)
        sync(file)

    os.fsync = fsync


if __name__ == "__main__":
    powercut.load = fake.load
    die_at(int(sys.argv[1]), sys.argv[2])
    sys.exit(main(["eval", *sys.argv[3:]]))
