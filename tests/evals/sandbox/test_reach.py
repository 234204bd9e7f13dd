"""What a program cannot get at, by programs that try; and what it can, the sandbox says before it starts."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from powercut.errors import PowercutError
from powercut.evals.sandbox import confine, local_sandbox, supervisor
from powercut.evals.sandbox.bundle import bundle
from powercut.evals.sandbox.isolation import Isolation
from powercut.evals.sandbox.local_sandbox import _REACHES, LocalSandbox
from powercut.evals.sandbox.usage import Limits

BOX = LocalSandbox()


def unconfined():
    """The sandbox's own program where the system has neither Landlock nor seccomp."""
    text = bundle(confine, supervisor, call="begin()")
    without = text.replace(r"        confine(folder)\n", "")
    assert without != text
    return without


def holds(shut_in, *names):
    """Whether the sandbox says that it keeps programs from something here."""
    return not {_REACHES[name] for name in names} & set(BOX.reaches())


@pytest.mark.usefixtures("shut_in")
class TestWhatIsOutOfReach:
    def test_other_folders(self, shut_in, tmp_path):
        program = """
import contextlib, os
for folder in {folders}:
    for number in range(4):
        with contextlib.suppress(OSError):
            open(os.path.join(folder, f"powercut-test-{{number}}"), "wb").write(b"x" * (10 << 20))
"""
        folders = [tmp_path, Path("/dev/shm"), Path.home(), Path("/tmp"), Path("/var/tmp")]
        BOX.run(program.format(folders=[str(folder) for folder in folders]))
        left = [path for folder in folders for path in folder.glob("powercut-test-*")]
        for path in left:
            path.unlink()
        assert not left or not holds(shut_in, "write")

    def test_files_of_the_user(self, shut_in, tmp_path):
        (tmp_path / "secret").write_text("SECRET")
        run = BOX.run(f"print(open({str(tmp_path / 'secret')!r}).read())")
        assert "SECRET" not in run.stdout or not holds(shut_in, "read")

    def test_the_environment_of_other_programs(self, shut_in):
        with subprocess.Popen(["sleep", "60"], env={"SECRET": "known"}) as other:
            run = BOX.run(f"print(open('/proc/{other.pid}/environ').read())")
            every = "import glob\nfor path in glob.glob('/proc/*/environ'):\n    try: print(open(path).read())\n"
            listed = BOX.run(every + "    except OSError: pass")
            other.kill()
        assert "known" not in run.stdout + listed.stdout or not holds(shut_in, "environment")

    def test_the_network_and_sockets(self, shut_in, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as server:
            run = BOX.run(f"import socket; socket.create_connection({server.getsockname()}, timeout=5)")
        assert run.returncode or not holds(shut_in, "connect")

    def test_the_processes_above_it(self, shut_in):
        """It is ended, or refused; powercut goes on, and so do others."""
        with subprocess.Popen(["sleep", "60"]) as other:
            program = f"import os, signal, time\nos.kill({other.pid}, 0)\nos.kill({other.pid}, signal.SIGKILL)"
            BOX.run(program)
            assert other.poll() is None or not holds(shut_in, "signal")
            other.kill()
        run = BOX.run("import os, signal, time\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(1)")
        assert run.returncode == 1 or run.stopped == "it ended what watches it"

    def test_more_rights(self, shut_in):
        """Neither another namespace of its own, nor the capabilities of root, nor what Landlock took."""
        program = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.unshare(0x10000000 | 0x20000), libc.mount(b"none", b"/tmp", b"tmpfs", 0, None), libc.setuid(0))
try: os.mknod("disk", 0o600 | 0o60000, os.makedev(8, 0)); print("made")
except OSError: pass
"""
        run = BOX.run(program)
        assert "made" not in run.stdout
        if sys.platform == "linux":
            assert run.stdout.split()[1] == "-1"


def test_what_holds_nothing_back_says_so(monkeypatch):
    """Were there neither namespaces nor Landlock nor seccomp, every one of these could be had."""
    monkeypatch.setattr(local_sandbox, "_program", unconfined)
    monkeypatch.setattr(local_sandbox, "isolation", Isolation)
    told = BOX.describe()
    expected = {name: what for name, what in _REACHES.items() if name != "stay"}
    assert BOX.reaches()[: len(expected)] == list(expected.values())
    assert all(what in told for what in expected.values())


@pytest.mark.parametrize("confined", [True, False])
@pytest.mark.usefixtures("shut_in")
def test_what_is_left_running_is_found(confined, monkeypatch):
    """Even what left the program's session, closed its files and lost its parent."""
    if not confined:
        monkeypatch.setattr(local_sandbox, "_program", unconfined)
    marker = f"powercut-test-{time.monotonic_ns()}"
    escape = f"""
import contextlib, os, sys, time
if os.fork() == 0:
    with contextlib.suppress(OSError): os.setsid()
    if os.fork() == 0:
        for fd in range(3): os.close(fd)
        os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(100)', '{marker}'])
    os._exit(0)
os.wait()
time.sleep({{}})
"""
    for seconds in (0.5, 100):
        LocalSandbox(Limits(wall_seconds=3)).run(escape.format(seconds))
        assert not [p for p in psutil.process_iter(["cmdline"]) if marker in (p.info["cmdline"] or [])]


BEATS = """
import contextlib, os, sys, time
if os.fork() == 0:  # one in its session, one that left it, where it can
    with contextlib.suppress(OSError): os.setsid()
while True:
    open(f"beat-{os.getpid()}", "w").close()
    time.sleep(0.02)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_runs_ends_when_powercut_is_killed(tmp_path, how, shut_in):
    code = f"""
from powercut.evals.sandbox import local_sandbox
from powercut.evals.sandbox.isolation import Isolation
local_sandbox.isolation = lambda: {shut_in!r}
local_sandbox.LocalSandbox().run({BEATS!r})
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE) as process:
        wait_until(lambda: len(list(tmp_path.glob("*/beat-*"))) == 2)
        process.send_signal(how)
    wait_until(lambda: not list(tmp_path.iterdir()))
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]


def wait_until(condition):
    """For a minute at most: far longer than it takes, and then it is a failure."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_sandbox_in_which_python_does_not_work_is_an_error(monkeypatch):
    monkeypatch.setattr(local_sandbox, "reach", confine)  # in place of what is to be tried
    with pytest.raises(PowercutError, match="programs do not work in the sandbox here: "):
        BOX.describe()
