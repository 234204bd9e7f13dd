"""What the tests of the http engine share: how they load one, ask it, and watch its log."""

import asyncio
import logging

import numpy as np
import pytest

import powercut as pc
from tests.checks import random_table

MODEL = random_table(1, 6)
PROMPT = np.array([1, 2, 3])
KINDS = ("completions", "generate", "llama", "sglang")
every_kind = pytest.mark.parametrize("kind", KINDS)


def load(server, *others, top_k=4, backoff=0.0, **options):
    return pc.load(",".join(s.url for s in (server, *others)), top_k=top_k, backoff=backoff, **options)


def ask(seed=0, context=PROMPT, n=12, **options):
    return pc.Request(context=context, max_new_tokens=n, seed=seed, top_k=options.pop("top_k", 4), **options)


def extend(engine, *requests, keep_going=None):
    async def all_at_once():
        return await asyncio.gather(*(engine.extend(r, keep_going) for r in requests))

    return asyncio.run(all_at_once())


def now(awaitable):
    async def awaited():
        return await awaitable

    return asyncio.run(awaited())


def never_stops(context):
    return np.array([0.0, 0.5, 0.3, 0.2])


def rejected(server, match, error=(pc.EngineError, pc.SettingError), **options):
    """Loading fails in one line that matches; returns it."""
    with pytest.raises(error, match=match) as caught:
        load(server, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def response(body, status="200 OK", **headers):
    """A whole answer of HTTP."""
    body = body if isinstance(body, bytes) else body.encode()
    named = {"Content-Length": len(body), "Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def failing(server, **options):
    """What one request raises, which must be one line."""
    engine = load(server, retry_for=0.0, top_k=3)
    server.spoil = options.pop("spoil", server.spoil)
    server.instead = options.pop("instead", server.instead)
    with pytest.raises(pc.EngineError) as caught:
        extend(engine, ask(top_k=3, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


class OnWarning(logging.Handler):
    """Calls ``act`` when the engine says that a server is away."""

    def __init__(self, act):
        super().__init__(logging.INFO)
        self.act, self.lines = act, []

    def emit(self, record):
        self.lines.append(record.getMessage())
        if "chains wait" in self.lines[-1]:
            self.act()

    def __enter__(self):
        log = logging.getLogger("powercut")
        self.level = log.level
        log.setLevel(logging.INFO)
        log.addHandler(self)
        return self

    def __exit__(self, *_):
        log = logging.getLogger("powercut")
        log.setLevel(self.level)
        log.removeHandler(self)
