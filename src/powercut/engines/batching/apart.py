"""Work of torch or llama.cpp that must not happen in the caller's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def run_apart(job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """``job(*args, **kwargs)`` in a thread that ends with it.

    OpenMP gives every thread that computes a team of its own. As soon as the teams have more threads than the machine
    has cores, none spins for work any longer, and a decode step takes half as long again. So the thread that decodes
    should be the only one to keep a team: what else an engine computes, it computes here.
    """
    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(job(*args, **kwargs))
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, daemon=True, name="powercut-load").start()  # daemon: Ctrl-C does not wait for it
    return result.result()
