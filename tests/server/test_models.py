"""What the server says of itself."""

import pytest

from powercut.samplers import SAMPLERS
from tests.server.serving import NAME, serving, web


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/", "//v1/models", "/v1//models//"])
def test_model_list_with_and_without_doubled_or_trailing_slash(served, path):
    found = web.get(served.root + path).json()
    assert found["object"] == "list"
    assert [model["id"] for model in found["data"]] == [NAME, f"{NAME}@entropy-cut"] + [
        f"{NAME}@{sampler}" for sampler in SAMPLERS if sampler != "entropy-cut"
    ]
    assert {model["object"] for model in found["data"]} == {"model"}
    assert {model["max_model_len"] for model in found["data"]} == {64}


def test_one_model_and_404_with_model_not_found(served, ask):
    assert web.get(f"{served.url}/models/{NAME}@smc").json()["id"] == f"{NAME}@smc"
    for answer in (web.get(f"{served.url}/models/none"), ask(model="none")):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"
        assert answer.json()["error"]["param"] == "model"


def test_a_sampler_that_cannot_have_the_settings_is_not_offered(caplog):
    with serving(extra={"alpha": "inf", "temperature": 0.25, "require": "a"}) as served:
        ids = [model["id"] for model in web.get(f"{served.url}/models").json()["data"]]
    assert f"{NAME}@uniform-cut" in ids
    assert f"{NAME}@smc" not in ids
    assert f"{NAME}@smc is not offered: alpha must be" in caplog.text


def test_health_says_ok(served):
    assert web.get(f"{served.root}/health").json() == {"status": "ok"}


def test_metrics_count_what_was_done():
    with serving() as served:
        chat = {"messages": [{"role": "user", "content": "abc"}], "seed": 1}
        answer = web.post(f"{served.url}/chat/completions", json=chat).json()
        web.post(f"{served.url}/chat/completions", json={**chat, "budget": 3, "model": f"{NAME}@standard"})
        lines = web.get(f"{served.root}/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values['powercut_requests_total{path="/v1/chat/completions",status="200"}'] == "2"
    decoded = answer["usage"]["completion_tokens_details"]["decoded_tokens"]
    assert int(values["powercut_tokens_decoded_total"]) >= decoded + 3
    assert int(values["powercut_tokens_kept_total"]) == answer["usage"]["completion_tokens"] + 3
    assert int(values["powercut_steps_total"]) == answer["powercut"]["choices"][0]["steps"]
    assert values["powercut_chains_total"] == "2"
    assert values['powercut_stopped_total{reason="budget"}'] == "1"
    assert values["powercut_chains_running"] == values["powercut_chains_waiting"] == "0"
    chats = 'path="/v1/chat/completions"'
    assert values[f"powercut_request_seconds_count{{{chats}}}"] == "2"
    assert values[f'powercut_request_seconds_bucket{{{chats},le="+Inf"}}'] == "2"
    assert not any("_seconds" in name and "/health" in name for name in values)


def test_the_openapi_page_has_every_route(served):
    paths = web.get(f"{served.root}/openapi.json").json()["paths"]
    assert set(paths) == {
        *("/health", "/metrics", "/v1/models", "/v1/models/{model}", "/v1/chat/completions", "/v1/completions"),
        *("/v1/responses", "/tokenize", "/detokenize", "/tokenizer_info"),
    }


def test_errors_of_routes_are_error_objects(served):
    for answer in (web.get(f"{served.root}/nowhere"), web.get(f"{served.url}/chat/completions")):
        assert answer.status_code in (404, 405)
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
