"""Takes rights away from the process that calls it, for good, as far as the system lets us. Imports nothing of ours.

Its text is sent to where it is to run (see ``bundle``).
"""

from __future__ import annotations

import os
import struct
import sys

_NOBODY = 65534
_SET_DUMPABLE, _SUBREAPER, _NO_NEW_PRIVILEGES, _DROP_CAPABILITY = 4, 36, 38, 24
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1, 2, 4, 8
_REFUSED = {"x86_64": (0xC000003E, (41, 109, 112)), "aarch64": (0xC00000B7, (198, 154, 157))}
"""How the system calls an architecture, and its numbers of socket, setpgid and setsid."""
_SET_SECCOMP, _ALLOW, _REFUSE = 22, 0x7FFF0000, 0x00050001
_OTHER_CALLS = 0x40000000
"""Where the numbers of x32 begin, a second set for the same calls."""
_IO_URING = 425
"""Sets up a way to make calls that seccomp does not see."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
READABLE = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/nix/store", "/etc/ld.so.cache", "/etc/localtime"),
    *(sys.base_prefix, sys.base_exec_prefix),
)
"""Where the files of the system and of Python are."""


def confine(folder: str) -> None:
    """Leave this process and its children a folder to write to, Python's and the system's own files to read, no more.

    By Linux's Landlock: files, and signals to and the memory of processes outside, each from the version on that has
    it; by seccomp, on x86-64 and ARM: sockets of any kind, and leaving the group of processes. Root becomes the
    user nobody, if that user can read Python. Capabilities are dropped, and cannot be had again.
    """
    if sys.platform != "linux":
        return
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _leave_root()
    for capability in range(64):
        _call("prctl", _DROP_CAPABILITY, capability, 0, 0, 0)
    _call("capset", struct.pack("=Ii", 0x20080522, 0), bytes(24))
    _landlock(folder)
    _refuse()


def keep_from_others() -> None:
    """Keep other processes of the same user from reading this one's memory and files, and from tracing it."""
    if sys.platform == "linux":
        _call("prctl", _SET_DUMPABLE, 0, 0, 0, 0)


def adopt() -> None:
    """Become the parent of every descendant whose own parent ends, so that none gets lost."""
    if sys.platform == "linux":
        _call("prctl", _SUBREAPER, 1, 0, 0, 0)


def _leave_root() -> None:
    if os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(-1, _NOBODY, 0)
    except OSError:  # nobody does not exist in this namespace, whose root is nobody outside
        return
    try:
        with open(os.__file__, "rb"):
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError:
        os.setresuid(0, 0, 0)


def _landlock(folder: str) -> None:
    version = _call("syscall", _LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return
    files = (1 << (12 + min(version, 3) if version < 5 else 16)) - 1
    handled = [files, *([3] if version >= 4 else []), *([3] if version >= 6 else [])]
    rules = struct.pack(f"={len(handled)}Q", *handled)
    ruleset = _call("syscall", _LANDLOCK_CREATE, rules, len(rules), 0)
    allowed = [(path, _READ_FILE | _READ_FOLDER | _EXECUTE) for path in READABLE]
    for path, access in [*allowed, *((device, _READ_FILE | _WRITE_FILE) for device in _DEVICES), (folder, files)]:
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:  # not on this system
            continue
        if not os.path.isdir(path):
            access &= ~_READ_FOLDER
        _call("syscall", _LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", access, opened), 0)
        os.close(opened)
    _call("syscall", _LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)


def _refuse() -> None:
    """Refuse to make sockets, as Landlock knows neither UDP nor those that are files; pairs of them are allowed.

    And to leave the group of processes, which is ended as one.
    """
    if os.uname().machine not in _REFUSED:
        return
    import ctypes

    architecture, calls = _REFUSED[os.uname().machine]
    load, jump_if_equal, jump_if_above, give = 0x20, 0x15, 0x35, 0x06
    last = len(calls) + 6  # where it is refused; jumps count from the next line
    program = [
        (load, 0, 0, 4),
        (jump_if_equal, 0, last - 2, architecture),
        (load, 0, 0, 0),
        (jump_if_above, last - 4, 0, _OTHER_CALLS),
        *((jump_if_equal, last - 5 - at, 0, call) for at, call in enumerate((*calls, _IO_URING))),
        (give, 0, 0, _ALLOW),
        (give, 0, 0, _REFUSE),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    _call("prctl", _SET_SECCOMP, 2, struct.pack("HP", len(program), ctypes.addressof(code)), 0, 0)


def _call(name: str, *arguments: int | bytes | None) -> int:
    """A function of the C library; -1 where it fails or is not there."""
    try:
        import ctypes

        function = getattr(ctypes.CDLL(None), name)
    except (ImportError, AttributeError, OSError):
        return -1
    function.restype = ctypes.c_long
    return int(function(*(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)))
