"""``powercut sample`` and ``powercut eval`` with a model behind a server."""

import json
import warnings

import numpy as np
import pytest

from powercut.cli import main
from powercut.cli.app import _notes
from tests.engines.fake_server import FakeServer
from tests.tiny import tiny_tokenizer

SHORT = ["--sampler", "standard", "--max-new-tokens", "6", "--top-k", "4"]


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("POWERCUT_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def model(context):
    probs = np.full(260, 1e-6)
    probs[60:110] = 1.0
    return probs / probs.sum()


def two_models(path, body):
    if path != "/v1/models":
        return None
    data = json.dumps({"data": [{"id": name, "owned_by": "vllm"} for name in ("other", "fake")]}).encode()
    return f"HTTP/1.1 200 X\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def test_a_served_model_and_its_tokenizer(tmp_path, capsys):
    tiny_tokenizer().save_pretrained(tmp_path)
    with FakeServer(model, tokenizer=tiny_tokenizer(), instead=two_models) as server:
        words = ["sample", "hi", "--model", server.url, *SHORT, "--json"]
        assert main(words) == 2
        assert "serves other, fake: say which" in capsys.readouterr().err
        assert main([*words, "--served-model", "fake", "--tokenizer", str(tmp_path), "--stop", "xyz"]) == 0
        assert server.seen[-1]["model"] == "fake"
    [line] = capsys.readouterr().out.splitlines()
    assert len(json.loads(line)["tokens"]) == 6


def test_as_many_log_probs_are_tried_out_as_the_samplers_will_ask_for(tmp_path, capsys):
    with FakeServer(model, tokenizer=tiny_tokenizer(), max_logprobs=4) as server:
        assert main(["sample", "hi", "--model", server.url, *SHORT]) == 0
        capsys.readouterr()
        words = ["--model", server.url, "--top-k", "6"]
        for command in (["sample", "hi"], ["eval", "arithmetic", "--limit", "1", "--out", str(tmp_path / "run")]):
            asked = len(server.seen)
            assert main([*command, *words]) == 2
            assert "top_k=6" in (said := capsys.readouterr().err)
            assert "--max-logprobs 6" in said
            assert len(server.seen) == asked


@pytest.mark.parametrize(("flag", "value"), [("--served-model", "m"), ("--tokenizer", "t")])
@pytest.mark.parametrize("command", [["sample", "hi"], ["eval", "arithmetic", "--out"]])
def test_they_are_for_servers_only(command, flag, value, tmp_path, capsys):
    where = [str(tmp_path / "run")] if command[0] == "eval" else []
    assert main([*command, *where, flag, value, "--model", str(tmp_path)]) == 2
    assert f"{flag} is for a server" in capsys.readouterr().err


def test_an_address_without_a_scheme(capsys):
    assert main(["sample", "hi", "--model", "localhost:8000"]) == 2
    assert "http://localhost:8000" in capsys.readouterr().err


def test_a_connection_given_up_before_its_first_step_is_no_note(capsys):
    """anyio lets Python warn of it, at whatever time: what the user is told of stays readable."""
    with _notes():
        warnings.warn("coroutine 'connect_tcp.<locals>.try_connect' was never awaited", RuntimeWarning, stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert capsys.readouterr().err == "note: something else\n"
