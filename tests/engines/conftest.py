"""No test of an engine depends on the keys in the environment."""

import pytest


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("POWERCUT_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
