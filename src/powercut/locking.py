"""Folders that one process at a time writes to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from powercut.errors import SettingError

T = TypeVar("T")


def lock_folder(path: Path, lock: FileLock, read: Callable[[], T], user: str) -> T:
    """Make a folder if need be, lock it, and return what ``read`` finds in it; ``user`` is the command that has it.

    ``read`` raises SettingError for a folder of something else, which is left as it is. SettingError too when another
    process has the folder, or when it cannot be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        read()  # a folder of something else is refused before a lock file is put into it
        lock.acquire(timeout=0)
        try:
            return read()  # another process may have written until now
        except BaseException:
            lock.release()
            raise
    except Timeout:
        remedy = "wait for it, or give another folder"
        raise SettingError(f"{path} is in use by another powercut {user}: {remedy}") from None
    except OSError as error:
        raise SettingError(f"cannot write to {error.filename or path}: {error.strerror or error}") from None
