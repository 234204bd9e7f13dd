"""Modules as the text of one program, which runs where powercut is not installed."""

from __future__ import annotations

import inspect
from types import ModuleType

_LOAD = """\
def _load(name, source):
    import sys, types
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
    return module
"""


def bundle(*modules: ModuleType, call: str) -> str:
    """A program that runs ``call``, an expression, in the last of the modules.

    They may import the standard library, and those before them.
    """
    *used, last = (f"_load({module.__name__!r}, {inspect.getsource(module)!r})" for module in modules)
    return "\n".join([_LOAD, *used, f"{last}.{call}\n"])
