"""``powercut`` with a small table model, which sends itself SIGINT at a chosen call of a Python function.

Run as a program: ``python -m tests.cli.interrupted CALL ARGUMENTS``. The calls of the main thread count, from the first
import to the last thing that the interpreter does; with CALL 0 nothing is sent, and stderr ends with their number.
"""

import atexit
import itertools
import os
import signal
import sys


def count_calls(last: int) -> None:
    calls = itertools.count(1)

    def interrupt() -> None:
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGINT)

    def count(frame: object, event: str, _: object) -> None:
        if event == "call" and next(calls) == last:
            interrupt()

    def end() -> None:
        number = next(calls)
        if not last:
            os.write(2, f"{number}\n".encode())
        elif number < last:  # there were more when they were counted: some file was compiled then
            interrupt()

    atexit.register(end)  # the last to be called, being the first to be registered
    sys.setprofile(count)


def load(model: str | None = None, **options: object) -> object:
    if model is not None:
        from powercut.engines import load

        return load(model, **options)
    from tests.cli import fake

    return fake.load(**options)


if __name__ == "__main__":
    import powercut.cli

    powercut.load = load
    count_calls(int(sys.argv.pop(1)))
    sys.exit(powercut.cli.main())
