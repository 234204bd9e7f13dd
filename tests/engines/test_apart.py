"""Work in a thread of its own: its result, its error, and no thread left behind."""

import threading

import pytest

from powercut.engines.batching.apart import run_apart


def test_result_comes_from_another_thread_that_has_ended():
    def where(a, *, b):
        return a + b, threading.current_thread()

    total, thread = run_apart(where, 1, b=2)
    assert total == 3
    assert thread is not threading.current_thread()
    thread.join(10)
    assert not thread.is_alive()


def test_its_error_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        run_apart(lambda: 1 / 0)
