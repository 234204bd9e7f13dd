"""Programs that use more than they may are stopped, with the reason."""

import asyncio
import threading
from dataclasses import replace

import pytest

from powercut.evals.sandbox.execution import SandboxError
from powercut.evals.sandbox.isolation import Isolation
from powercut.evals.sandbox.local_sandbox import LocalSandbox
from powercut.evals.sandbox.usage import Limits

pytestmark = pytest.mark.usefixtures("shut_in")

SMALL = LocalSandbox(Limits(seconds=1, wall_seconds=120, memory=200 << 20, disk=2 << 20, files=50, processes=8))
"""Enough for Python, on however busy a machine; a program that stays within these limits ends by itself."""

HASTY = LocalSandbox(replace(SMALL.limits, wall_seconds=5))


def test_a_program_that_behaves():
    run = LocalSandbox().run("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(3)")
    assert (run.returncode, run.stdout, run.stderr, run.stopped) == (3, "out\n", "err\n", None)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("while True: pass", "it ran longer than 1 s"),
        ("import time; time.sleep(100)", "it did not end within 5 s"),
        (
            "import os\nwhile True:\n    if os.fork() == 0: import time; time.sleep(100)",
            "it started more than 8 processes",
        ),
        (
            "import time\nfor i in range(60): open(str(i), 'w').write('x')\ntime.sleep(100)",
            "it wrote more than 50 files",
        ),
        (
            "import time\nfor i in range(3): open(str(i), 'w').write('x' * 1_000_000)\ntime.sleep(100)",
            "it wrote more than 2 MB",
        ),
        ("for i in range(3): open(str(i), 'w').write('x' * 1_000_000)", "it wrote more than 2 MB"),
        (
            "import os, time\nfor i in range(3):\n    file = open('x', 'w')\n    os.unlink('x')\n"
            "    os.dup(file.fileno())\n    file.write('x' * 1_000_000)\n    file.flush()\ntime.sleep(100)",
            "it wrote more than 2 MB",
        ),
        (
            "import os, time\nfor i in range(3): os.write(os.memfd_create('x'), b'x' * 1_000_000)\ntime.sleep(100)",
            "it wrote more than 2 MB",
        ),
        ("import os\nfor i in range(2000):\n    os.mkdir('d')\n    os.chdir('d')", "it wrote more than 50 files"),
        (
            "import os\nname = 'd' * 250\nfor i in range(20):\n    os.mkdir(name)\n    os.chdir(name)",
            "it wrote more than 50 files",
        ),
        (
            "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        x = bytearray(100 << 20)\n"
            "        time.sleep(100)\ntime.sleep(100)",
            "it used more than 200 MB of memory",
        ),
    ],
)
def test_a_program_that_has_to_be_stopped(program, reason):
    sandbox = HASTY if "did not end" in reason else SMALL
    assert sandbox.run(program).stopped == reason


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("x = bytearray(1 << 30)", "MemoryError"),
        ("input()", "EOFError: EOF when reading a line"),
        ("import os; print(os.environ['SECRET'])", "KeyError: 'SECRET'"),
        ("'\ud800'", "SyntaxError"),
        ("def f(): f()\nf()", "RecursionError"),
        ("import ctypes; ctypes.string_at(0)", ""),
    ],
)
def test_a_program_that_fails_by_itself(program, error, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    run = SMALL.run(program)
    assert run.stopped is None
    assert run.returncode
    assert error in run.stderr
    assert len(run.stdout) <= 1 << 16


@pytest.mark.parametrize("program", ["open('big', 'w').write('x' * (3 << 20))", "while True: print('x' * 100_000)"])
def test_a_large_file_ends_at_the_limit(program):
    """Whether the system refuses the write or the program is stopped first."""
    run = SMALL.run(program)
    assert run.returncode != 0
    assert run.stopped == "it wrote more than 2 MB" or "OSError: [Errno 27] File too large" in run.stderr
    assert len(run.stdout) <= 1 << 16


def test_threads_are_counted_too():
    program = "import threading, time\nfor _ in range(30): threading.Thread(target=time.sleep, args=(100,)).start()"
    assert LocalSandbox(Limits(processes=8)).run(program).stopped == "it started more than 8 processes"


@pytest.mark.parametrize(
    "program",
    [
        "import os, shutil\nshutil.rmtree(os.path.dirname(os.getcwd()), ignore_errors=True)",
        "import os, shutil\nshutil.rmtree(os.getcwd(), ignore_errors=True)",
        "import os\nos.mkfifo('stdout')\nos.symlink('/dev/zero', 'stderr')",
        "import os\nos.chmod('.', 0)",
        "import os\nos.mkdir('a')\nos.symlink('..', 'a/b')\nos.chmod('a', 0)",
    ],
)
def test_whatever_becomes_of_its_folder_it_is_gone_afterwards(program, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = SMALL.run(program)
    assert run.stopped in (None, "it wrote more than 50 files")
    assert not list(tmp_path.iterdir())


def test_an_output_is_read_to_a_bound():
    run = LocalSandbox().run("import sys\nfor _ in range(5): print('x' * 1_000_000)\nprint('end')")
    assert len(run.stdout) == 1 << 16
    assert run.stdout.endswith("end\n")


def test_a_program_that_nobody_waits_for_ends(monkeypatch):
    ended = threading.Event()
    threading.Timer(0.5, ended.set).start()
    assert LocalSandbox().run("while True: pass", ended).stopped == "nobody waits for it any more"

    async def cancelled(box):
        running = asyncio.create_task(box("pass"))
        await asyncio.to_thread(started.wait)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    told, started = [], threading.Event()
    monkeypatch.setattr(LocalSandbox, "run", lambda self, program, ended: started.set() or told.append(ended.wait(60)))
    box = LocalSandbox()
    asyncio.run(cancelled(box))
    box._threads.shutdown()
    assert told == [True]


@pytest.mark.parametrize(
    "command", [("false",), ("/nothing/like/that",), ("sh", "-c", "echo no namespaces >&2; exit 1")]
)
def test_a_sandbox_that_cannot_start_is_an_error_and_no_verdict(command, monkeypatch):
    monkeypatch.setattr("powercut.evals.sandbox.local_sandbox.isolation", lambda: Isolation(command))
    with pytest.raises(SandboxError, match="no program can be started here: "):
        LocalSandbox().run("pass")
