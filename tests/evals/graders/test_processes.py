"""Work that takes too long or crashes has its process ended; processes that others end are started again."""

import ctypes
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from powercut.errors import PowercutError
from powercut.evals.graders import formula
from powercut.evals.graders.processes import CrashError, Processes
from powercut.evals.problem import Problem

MEMORY = 2 << 30


def nothing():
    pass


def double(number):
    return 2 * number


def forever():
    while True:
        pass


def fail(kind):
    raise kind("of the work itself")


def unable():
    raise OSError("no library here")


def end(how):
    os.kill(os.getpid(), how)
    time.sleep(60)


@pytest.fixture
def processes():
    made = Processes(nothing, MEMORY)
    yield made
    made.close()


def test_work_that_fails_in_every_way(processes):
    """After each of them the next is done."""
    for function, arguments, seconds, wall, error in [
        (forever, (), 1, 60, TimeoutError),
        (time.sleep, (60,), 60, 0.5, TimeoutError),
        (ctypes.string_at, (0,), 60, 60, CrashError),
        (end, (signal.SIGKILL,), 60, 60, PowercutError),
        (fail, (ValueError,), 60, 60, ValueError),
        (fail, (RuntimeError,), 60, 60, RuntimeError),
    ]:
        with pytest.raises(error):
            processes.run(function, arguments, seconds, wall)
        assert processes.run(double, (4,), 60, 60) == 8


def test_processes_that_others_end_are_started_again(processes):
    assert processes.run(double, (1,), 60, 60) == 2
    for child in psutil.Process().children():
        if "spawn_main" in " ".join(child.cmdline()):
            child.kill()
            while child.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.01)
    assert processes.run(double, (2,), 60, 60) == 4


def test_processes_that_do_not_start_are_an_error():
    with pytest.raises(PowercutError, match="the processes that compare answers do not start here"):
        Processes(unable, MEMORY).run(double, (1,), 60, 60)


def test_a_right_answer_is_no_wrong_one_where_processes_do_not_start():
    """As in a program that comes from standard input, which they cannot read again."""
    program = f"""
from {formula.__name__} import grade_math
from {Problem.__module__} import Problem
print(grade_math(Problem("p", "?", r"\\frac{{1}}{{2}}"), r"\\boxed{{0.5}}"))
"""
    run = subprocess.run([sys.executable], input=program, capture_output=True, text=True, check=False, timeout=300)
    assert (
        "correct=True" in run.stdout or "PowercutError: the processes that compare answers do not start" in run.stderr
    )
