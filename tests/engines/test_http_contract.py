"""The engine contract for the http engine, with a fake server of each kind behind it."""

import pytest

import powercut as pc
from powercut.study.exact import EOS
from tests.checks import random_table
from tests.engines.fake_server import FakeServer
from tests.engines.test_contract import *  # noqa: F403


@pytest.fixture(params=["completions", "generate", "llama", "sglang"])
def engine(request, monkeypatch):
    for name in ("POWERCUT_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with FakeServer(random_table(1, 6), kind=request.param) as server:
        yield pc.load(server.url, top_k=4, concurrency=16, stop_tokens=[EOS])
