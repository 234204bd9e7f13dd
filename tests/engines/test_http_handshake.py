"""What the checks at the start find, each in one line."""

import asyncio

import pytest

import powercut as pc
from powercut.engines.http.api import Api
from tests.engines.fake_server import FakeServer
from tests.engines.http_tools import MODEL, ask, every_kind, load, rejected


def test_no_server():
    with FakeServer(MODEL) as server:
        pass
    rejected(server, "no answer from http://127.0.0.1:.*start the server")


@pytest.mark.parametrize("url", ["http:///v1", "http://u:secret@host/v1", "http://host/v1,ftp://other"])
def test_urls_that_are_none(url):
    with pytest.raises(pc.SettingError) as caught:
        pc.load(url)
    assert "secret" not in str(caught.value)


@every_kind
def test_another_model(kind):
    with FakeServer(MODEL, kind=kind, model="org/some") as server:
        rejected(server, "model: .* serves org/some, not org/other", model="org/other")
        assert load(server, model="org/some").name == "org/some"


def test_servers_of_different_models():
    with (
        FakeServer(MODEL) as one,
        FakeServer(MODEL, model="other") as two,
        pytest.raises(pc.SettingError, match="other"),
    ):
        load(one, two)


@every_kind
def test_no_log_probs(kind):
    with FakeServer(MODEL, kind=kind, log_probs=False) as server:
        rejected(server, "no log-probabilities")


@every_kind
def test_processed_log_probs(kind):
    remedies = {"llama": "newer", "sglang": "SGLANG_RETURN_ORIGINAL_LOGPROB=1"}
    with FakeServer(MODEL, kind=kind, processed=True) as server:
        rejected(server, remedies.get(kind, "--logprobs-mode raw_logprobs"))


def test_too_few_log_probs():
    with FakeServer(MODEL, max_logprobs=3) as server:
        rejected(server, "top_k=4: .*max allowed: 3.*--max-logprobs 4")
    with FakeServer(MODEL) as server:
        rejected(server, "top_k=7: .* only 6 log-probabilities", top_k=7)


def test_a_larger_top_k_is_tried_when_it_is_first_wanted():
    with FakeServer(MODEL, max_logprobs=5) as server:
        engine = load(server)
        engine.check(ask(top_k=5))
        with pytest.raises(pc.SettingError, match="top_k=6"):
            engine.check(ask(top_k=6))


def test_requests_that_no_server_can_serve():
    with FakeServer(MODEL, max_model_len=20) as server:
        engine = load(server)
        with pytest.raises(pc.SettingError, match="top_k=None"):
            pc.sample(engine, pc.Standard(top_k=None), [[1]])
        with pytest.raises(pc.SettingError, match=r"context_length=20: .*give the server a longer one"):
            pc.sample(engine, pc.Standard(top_k=4, max_new_tokens=20), [[1]])
        with pytest.raises(pc.SettingError, match=r"temperature 0\.001"):  # which vLLM would raise to 0.01
            pc.sample(engine, pc.LowTemperature(alpha=1000, top_k=4, max_new_tokens=2), [[1]])
        with pytest.raises(pc.SettingError, match="tokenizer on this machine"):
            pc.sample(engine, pc.Standard(top_k=4, max_new_tokens=4, stop=("x",)), [[1]])
    assert engine.describe() == f"fake at {server.url[:-3]} (vLLM completions), up to 64 requests at once"


def test_what_is_no_such_server():
    with FakeServer(MODEL) as server:
        server.kind = "llama"  # the list of models says llama.cpp, and this path is not there
        api = Api(server.url[:-3])
        assert asyncio.run(api.get("/v1/models"))["data"][0]["owned_by"] == "llamacpp"
        with pytest.raises(pc.EngineError, match="404"):
            asyncio.run(api.post("/nothing", {}))


def test_an_option_it_does_not_have():
    with pytest.raises(pc.SettingError, match="http engine has no option slots"):
        pc.load("http://host/v1", slots=3)
