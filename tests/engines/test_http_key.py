"""The key is sent, where it may be, and never shown."""

import logging

import pytest

import powercut as pc
from tests.engines.fake_server import FakeServer
from tests.engines.http_tools import MODEL, ask, extend, load, rejected


def test_the_key_is_sent_and_never_shown(monkeypatch, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    with FakeServer(MODEL, key="sk-secret") as server:
        assert "POWERCUT_API_KEY" in rejected(server, "asks for a key")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
        assert "sk-other" not in rejected(server, "refuses the key")
        monkeypatch.setenv("POWERCUT_API_KEY", "sk-secret")
        engine = load(server)
        extend(engine, ask(0))
        assert server.headers[-1]["Authorization"] == "Bearer sk-secret"
        server.key = "sk-new"
        with pytest.raises(pc.EngineError, match="refuses the key") as caught:
            extend(engine, ask(0))
    shown = [str(caught.value), repr(engine), repr(vars(engine)), engine.describe(), caplog.text, *capsys.readouterr()]
    assert not any("sk-secret" in text or "sk-other" in text for text in shown)
