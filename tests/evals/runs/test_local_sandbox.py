"""Programs that misbehave are stopped, with the reason, and leave nothing behind."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from powercut.evals.runs.janitor import Janitor
from powercut.evals.runs.local_sandbox import Limits, LocalSandbox, isolation

SMALL = LocalSandbox(Limits(seconds=1, wall_seconds=5, memory=200 << 20, disk=2 << 20, files=50, processes=8))
"""Enough for Python; a program that stays within these limits ends by itself."""


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
        (
            "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        x = bytearray(100 << 20)\n"
            "        time.sleep(100)\ntime.sleep(100)",
            "it used more than 200 MB of memory",
        ),
    ],
)
def test_a_program_that_has_to_be_stopped(program, reason):
    assert SMALL.run(program).stopped == reason


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
    assert run.returncode
    assert run.stopped == "it wrote more than 2 MB" or "OSError: [Errno 27] File too large" in run.stderr
    assert len(run.stdout) <= 1 << 16


def test_threads_are_counted_too():
    program = "import threading, time\nfor _ in range(30): threading.Thread(target=time.sleep, args=(100,)).start()"
    assert LocalSandbox(Limits(processes=8)).run(program).stopped == "it started more than 8 processes"


def test_nothing_is_left_running():
    """Not even a process that left the program's session and closed its files."""
    marker = f"powercut-test-{time.monotonic_ns()}"
    escape = (
        "import os, sys, time\nif os.fork() == 0:\n    os.setsid()\n"
        f"    os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(100)', '{marker}'])\n"
        "time.sleep({})"
    )
    for program in (escape.format(0.5), escape.format(100)):
        LocalSandbox(Limits(wall_seconds=2)).run(program)
        assert not [p for p in psutil.process_iter(["cmdline"]) if marker in (p.info["cmdline"] or [])]


BEATS = """
import os, subprocess, sys, time
if len(sys.argv) == 1 and os.fork() == 0:  # one in its session, one that left it
    os.setsid()
while True:
    open({path!r} + str(os.getpid()), "w").close()
    time.sleep(0.02)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("namespaces", [True, False])
def test_what_runs_ends_when_powercut_is_killed(tmp_path, how, namespaces):
    beats, temporary = tmp_path / "beats", tmp_path / "temporary folder"
    beats.mkdir()
    temporary.mkdir()
    hidden = "" if namespaces else "local_sandbox.isolation = lambda: ()\n"
    program = BEATS.format(path=f"{beats}/")
    code = f"from powercut.evals.runs import local_sandbox\n{hidden}local_sandbox.LocalSandbox().run({program!r})"
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE) as process:
        wait_until(lambda: len(list(beats.iterdir())) == 2)
        assert list(temporary.iterdir())
        process.send_signal(how)
    wait_until(lambda: not list(temporary.iterdir()))

    def still():
        for file in beats.iterdir():
            file.unlink()
        time.sleep(0.2)  # ten beats
        return not list(beats.iterdir())

    wait_until(still)


def wait_until(condition):
    """For a minute at most: far longer than it takes, and then it is a failure."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_janitor_that_was_killed_is_replaced(tmp_path):
    janitor = Janitor()
    (tmp_path / "a").mkdir()
    janitor.watch(str(tmp_path / "a"))
    janitor._process.kill()
    janitor._process.wait()
    (tmp_path / "b").mkdir()
    janitor.watch(str(tmp_path / "b"))
    (tmp_path / "c").mkdir()
    janitor.watch(str(tmp_path / "c"))
    janitor.forget(str(tmp_path / "c"))
    del janitor
    wait_until(lambda: [folder.name for folder in tmp_path.iterdir()] == ["c"])


def test_a_program_that_nobody_waits_for_ends(tmp_path, monkeypatch):
    ended = threading.Event()

    def end():
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        ended.set()

    threading.Thread(target=end).start()
    program = BEATS.format(path=f"{tmp_path}/")
    assert LocalSandbox().run(program, ended).stopped == "nobody waits for it any more"

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


def test_the_network():
    """Out of reach where the system has namespaces; elsewhere the description says that it is not."""
    box = LocalSandbox()
    with socket.create_server(("127.0.0.1", 0)) as server:
        run = box.run(f"import socket; socket.create_connection({server.getsockname()}, timeout=5)")
    if isolation():
        assert "OSError" in run.stderr or "Error" in run.stderr
        assert run.returncode
        assert box.describe().endswith("no network")
    else:
        assert run.returncode == 0
        assert "but with network" in box.describe()


def test_without_namespaces(monkeypatch):
    """Where the system has none, every other limit holds."""
    monkeypatch.setattr("powercut.evals.runs.local_sandbox.isolation", lambda: ())
    assert SMALL.run("while True: pass").stopped == "it ran longer than 1 s"
    assert (
        SMALL.run("import os, time\nfor _ in range(4): os.fork()\ntime.sleep(100)").stopped
        == "it started more than 8 processes"
    )
    assert SMALL.run("print(1)").stdout == "1\n"
    assert "but with network" in SMALL.describe()
