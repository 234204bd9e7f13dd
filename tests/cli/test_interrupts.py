"""Ctrl-C, as a signal to this process, inside a library that makes its own of it."""

import contextlib
import os
import signal

import pytest

from powercut.cli.interrupts import interruptible


def press():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):  # the handler runs between two instructions
        pass


def swallow():
    with contextlib.suppress(BaseException):
        press()


def change():
    try:
        press()
    except BaseException:
        raise ImportError("cannot import") from None


def unraisable():
    def items():
        try:
            yield
        finally:
            press()

    next(iter(items()))  # Python closes it, and reports what is raised then as ignored


@pytest.mark.parametrize("library", [press, swallow, change, unraisable])
def test_an_interruption_gets_through(library, capsys):
    with pytest.raises(KeyboardInterrupt), interruptible():
        library()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert capsys.readouterr().err == ""


def test_another_error_stays():
    with pytest.raises(ImportError), interruptible():
        raise ImportError("no such library")
    with interruptible():
        pass
