"""Programs that want to pass for another reason than computing the function: ``first(xs)``, which is ``xs[0]``."""

import json

MARK = json.dumps({"nonce": "", "reason": None})
"""What a verdict looks like, but for the nonce."""

TRICKS = {
    "an object that equals everything": """
class E:
    def __eq__(self, other): return True
def first(xs):
    return E()
""",
    "an int that equals everything": """
class E(int):
    def __eq__(self, other): return True
def first(xs):
    return E(7)
""",
    "a list that equals everything": """
class E(list):
    def __eq__(self, other): return True
def first(xs):
    return E()
""",
    "a verdict, written to every descriptor": f"""
import contextlib, os
def first(xs):
    for fd in range(64):
        with contextlib.suppress(OSError): os.write(fd, b'{MARK}' + bytes([10]))
    os._exit(0)
""",
    "a verdict, written when the program ends": f"""
import atexit, sys
def first(xs):
    return 0
atexit.register(lambda: print({MARK!r}, file=sys.__stdout__, flush=True))
""",
    "a verdict, written into ../stdout": f"""
import os
def first(xs):
    open('../stdout', 'a').write({MARK!r})
    os._exit(0)
""",
    "a verdict, written to its parent's output": f"""
import os
def first(xs):
    open(f'/proc/{{os.getppid()}}/fd/1', 'w').write({MARK!r})
    return 0
""",
    "another compile": """
import builtins
def first(xs):
    return 0
_compile = builtins.compile
builtins.compile = lambda source, *a, **k: _compile(source.replace('assert ', 'pass #'), *a, **k)
""",
    "another exec": """
import builtins
def first(xs):
    return 0
def fake(code, values):
    values['check'] = lambda candidate: None
builtins.exec = fake
""",
    "another check": """
import sys
def check(candidate): pass
for module in list(sys.modules.values()):
    module.check = check
def first(xs):
    return 0
""",
    "another encoding": """
import sys
for module in list(sys.modules.values()):
    if hasattr(module, 'encode'): module.encode = lambda *a: 'true'
def first(xs):
    return 0
""",
    "replies ahead of time": """
import contextlib, os
def first(xs):
    for fd in range(3, 64):
        with contextlib.suppress(OSError): os.write(fd, b'{}' + bytes([10]) + b'{"value": "true"}' * 9)
    return 0
""",
    "replies without end": """
import contextlib, os
def first(xs):
    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            while True: os.write(fd, b'x' * 65536)
""",
    "the end of its parent": """
import os, signal
def first(xs):
    os.kill(os.getppid(), signal.SIGKILL)
    return 0
""",
    "the memory of its parent": """
import os
def first(xs):
    memory = open(f'/proc/{os.getppid()}/mem', 'rb+')
    return 3
""",
    "silence": """
import os, time
def first(xs):
    os.closerange(3, 64)
    time.sleep(5)
""",
}
