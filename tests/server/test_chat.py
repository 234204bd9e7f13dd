"""/v1/chat/completions, whole: its shape, and what a request may ask for."""

import asyncio
import math

import httpx
import pytest

import powercut as pc
from powercut.samplers import SAMPLERS
from tests.server.serving import NAME, PATIENCE, SETTINGS, LettersEngine


def drawn(seed=5, n=1, prompt="abc", **settings):
    """What the library draws for the same request."""
    sampler = pc.EntropyCut(**{**SETTINGS, **settings})
    return pc.sample(LettersEngine(), sampler, [[{"role": "user", "content": prompt}]], n=n, seed=seed)


def test_whole_chat_shape(ask):
    answer = ask(seed=5).json()
    [completion] = drawn()
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert answer["model"] == NAME
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": completion.text, "refusal": None}
    assert choice["index"] == 0
    assert choice["logprobs"] is None


def test_the_powercut_object_says_how_it_was_drawn(ask):
    answer = ask(seed=5, alpha=2, temperature=0.7, top_p=0.9).json()["powercut"]
    [completion] = drawn(alpha=2)
    assert (answer["sampler"], answer["seed"], answer["stopped"], answer["notes"]) == ("entropy-cut", 5, None, [])
    assert answer["settings"]["alpha"] == 2
    assert answer["settings"]["steps"] == SETTINGS["steps"]
    assert answer["unused"] == {"temperature": 0.7, "top_p": 0.9}
    [choice] = answer["choices"]
    assert choice["logp"] == completion.logp
    assert choice["acceptance"] == completion.stats.acceptance
    assert choice["tokens_decoded"] == completion.stats.tokens_decoded
    assert choice["tokens"] == len(completion.tokens)


def test_truthful_finish_reason(ask):
    reasons = {}
    for seed in range(20):
        answer = ask(seed=seed, model=f"{NAME}@standard", max_tokens=3).json()
        reasons[answer["choices"][0]["finish_reason"]] = answer["powercut"]["choices"][0]["finished"]
    assert reasons == {"stop": True, "length": False}


def test_usage_counts_prompt_kept_text_and_all_decoded(ask):
    answer = ask(seed=5).json()
    [completion] = drawn()
    assert answer["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": len(completion.tokens),
        "total_tokens": 3 + len(completion.tokens),
        "completion_tokens_details": {"decoded_tokens": completion.stats.tokens_decoded},
    }


def test_n_above_1_gives_distinct_choices(ask):
    answer = ask(seed=5, n=3).json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == [c.text for c in drawn(n=3)]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in answer["choices"]}) > 1
    assert len(answer["powercut"]["choices"]) == 3


@pytest.mark.parametrize("n", [0, 129])
def test_n_is_bounded(ask, n):
    answer = ask(n=n)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "n"


def test_a_seed_that_is_not_given_is_told(ask):
    first, second = ask().json(), ask().json()
    seed = first["powercut"]["seed"]
    assert seed != second["powercut"]["seed"]
    assert ask(seed=seed).json()["choices"] == first["choices"]


@pytest.mark.parametrize(("stop", "same"), [("bb", ["bb"]), (["bb", "c"], ["bb", "c"]), (None, []), ([], []), ("", [])])
def test_stop_as_string_list_null_empty(ask, stop, same):
    for seed in range(5):
        [completion] = drawn(seed, stop=same, alpha=1)
        answer = ask(seed=seed, stop=stop, alpha=1).json()
        text = answer["choices"][0]["message"]["content"]
        assert text == completion.text
        assert not any(each in text for each in same)


def test_a_stop_is_a_text_also_where_it_reads_like_a_token_id(ask):
    assert ask(stop="id:1").json()["powercut"]["settings"]["stop"] == ["id:1"]
    assert ask(stop=["id:"]).json()["powercut"]["settings"]["stop"] == ["id:"]


def test_max_tokens_and_max_completion_tokens(ask):
    for name in ("max_tokens", "max_completion_tokens", "max_new_tokens"):
        answer = ask(**{name: 6}).json()
        assert answer["powercut"]["settings"]["max_new_tokens"] == 6
        assert answer["usage"]["completion_tokens"] <= 6
    assert ask(max_tokens=6, max_completion_tokens=6).status_code == 200
    for name, value in (("max_tokens", 0), ("max_completion_tokens", -1)):
        answer = ask(**{name: value})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
    assert ask(max_tokens=6, max_completion_tokens=5).status_code == 400


def test_a_context_overflow_is_a_recognisable_400(ask):
    answer = ask(max_tokens=63)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert answer.json()["error"]["param"] == "messages"
    assert "maximum context length" in answer.json()["error"]["message"]


def test_temperature_0_is_accepted_and_changes_nothing(ask):
    plain = ask(seed=5).json()
    for fields in ({"temperature": 0}, {"temperature": 2, "top_p": 0.01}, {"temperature": None, "min_p": 0.3}):
        answer = ask(seed=5, **fields).json()
        assert answer["choices"] == plain["choices"]
        assert answer["powercut"]["unused"] == {name: value for name, value in fields.items() if value is not None}


def test_proposal_temperature_is_the_sampler_s(ask):
    assert ask(proposal_temperature=0.5).json()["powercut"]["settings"]["temperature"] == 0.5
    answer = ask(proposal_temperature=-1)
    assert answer.json()["error"]["param"] == "proposal_temperature"
    assert ask(model=f"{NAME}@standard", proposal_temperature=0.5).json()["error"]["param"] == "proposal_temperature"


def test_logprobs_and_top_logprobs_are_of_the_base_model_and_the_final_text(ask):
    answer = ask(seed=5, logprobs=True, top_logprobs=2).json()
    content = answer["choices"][0]["logprobs"]["content"]
    text = answer["choices"][0]["message"]["content"]
    assert "".join(each["token"] for each in content).rstrip(".") == text
    assert sum(each["logprob"] for each in content) == pytest.approx(answer["powercut"]["choices"][0]["logp"])
    law = [0.1, 0.3, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05]  # its 8 most likely tokens
    for each in content:
        assert [top["token"] for top in each["top_logprobs"]] == ["a", "b"]
        assert [top["logprob"] for top in each["top_logprobs"]] == pytest.approx(
            [math.log(0.3 / sum(law)), math.log(0.2 / sum(law))]
        )
        assert bytes(each["bytes"]).decode() == each["token"]
    assert ask(top_logprobs=2).json()["error"]["param"] == "top_logprobs"
    assert ask(logprobs=True, top_logprobs=21).json()["error"]["param"] == "top_logprobs"


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_top_logprobs_of_every_sampler(ask, sampler):
    fields = {"particles": 4} if "smc" in sampler else {"block_size": 4, "horizon": 4} if sampler == "tmc" else {}
    if sampler == "rejection":
        fields = {"max_tokens": 4, "alpha": 1.5}
    answer = ask(sampler=sampler, seed=3, logprobs=True, top_logprobs=1, **fields).json()
    content = answer["choices"][0]["logprobs"]["content"]
    assert len(content) == answer["usage"]["completion_tokens"]
    assert {each["top_logprobs"][0]["token"] for each in content} == {"a"}


def test_settings_of_requests_at_once_never_mix(served):
    """Each gets what it would get alone; the same seed gives the same text under any load."""

    async def all_at_once():
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            bodies = [
                {
                    "messages": [{"role": "user", "content": "ab"}],
                    "seed": seed,
                    "alpha": 1 + seed % 3,
                    "steps": seed % 4,
                }
                for seed in range(24)
            ]
            asked = [client.post(f"{served.url}/chat/completions", json=body) for body in bodies]
            return bodies, [answer.json() for answer in await asyncio.gather(*asked)]

    for body, answer in zip(*asyncio.run(all_at_once()), strict=True):
        [alone] = drawn(body["seed"], prompt="ab", alpha=body["alpha"], steps=body["steps"])
        assert answer["choices"][0]["message"]["content"] == alone.text
        assert answer["powercut"]["choices"][0]["logp"] == alone.logp


def test_samplers_are_chosen_by_model_and_by_field(ask):
    assert ask(model=f"{NAME}@uniform-cut").json()["powercut"]["sampler"] == "uniform-cut"
    assert ask(sampler="standard").json()["powercut"]["sampler"] == "standard"
    assert ask(model=f"{NAME}@standard", sampler="standard").json()["powercut"]["sampler"] == "standard"
    answer = ask(model=f"{NAME}@standard", sampler="smc")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "sampler")
    assert ask(sampler="entropycut").json()["error"]["param"] == "sampler"


def test_best_of_is_of_best_of_n(ask):
    answer = ask(sampler="best-of-n", best_of=3).json()
    assert answer["powercut"]["settings"]["n"] == 3
    assert answer["powercut"]["choices"][0]["candidates"] == 3
    assert ask(best_of=1).status_code == 200
    assert ask(best_of=2).json()["error"]["param"] == "best_of"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"alpha": 0.5}, "alpha"),
        ({"alpha": "x"}, "alpha"),
        ({"alhpa": 3}, "alhpa"),
        ({"particles": 3}, "particles"),
        ({"steps": True}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"top_k": 10}, "top_k"),
        ({"blocks": [1]}, "blocks"),
        ({"rule": "x"}, "rule"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"seed": True}, "seed"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 5, "max_new_tokens": 9}, "max_tokens"),
        ({"stream_options": {"continuous_usage_stats": True}}, "stream_options"),
        ({"min_p": [[]]}, "min_p"),
        ({"skip_special_tokens": False}, "skip_special_tokens"),
        ({"budget": True}, "budget"),
        ({"budget": 0}, "budget"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"stop": [1]}, "stop"),
        ({"require": "a"}, "require"),
        ({"sampler": "smc", "particles": 5000}, "particles"),
        ({"steps": 10**7}, "steps"),
        ({"sampler": "smc", "moves": 10**7}, "moves"),
        ({"logprobs": True, "top_logprobs": 1, "top_k": "all"}, "top_logprobs"),
        ({"messages": "x"}, "messages"),
        ({"messages": []}, "messages"),
        ({"chat_template_kwargs": {"tokenize": 1}}, "chat_template_kwargs"),
    ],
)
def test_what_is_unknown_or_unfitting_is_a_400_with_param(ask, fields, param):
    answer = ask(**fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "field",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"functions": [{"name": "f"}]},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"tool_choice": "required"},
    ],
)
def test_tools_and_response_format_are_refused_with_param(ask, field):
    answer = ask(**field)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(field))


def test_neutral_extras_are_accepted_and_others_refused(ask):
    neutral = {
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "user": "me",
        "metadata": {"a": "b"},
        "store": False,
        "parallel_tool_calls": True,
        "service_tier": "auto",
        "logprobs": False,
        "modalities": ["text"],
        "reasoning_effort": None,
        "whatever": None,
        "best_of": 1,
        "stream": False,
        "stream_options": {"include_obfuscation": False, "continuous_usage_stats": False},
        "do_sample": True,
        "skip_special_tokens": True,
        "ignore_eos": False,
    }
    assert ask(**neutral).status_code == 200
    for name, value in (
        *(("frequency_penalty", 0.1), ("presence_penalty", -1), ("logit_bias", {"5": 1}), ("store", True)),
        *(("modalities", ["audio"]), ("reasoning_effort", "high"), ("prediction", {"type": "content"})),
    ):
        answer = ask(**{name: value})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)


def test_what_is_rounded_is_noted(ask):
    [note] = ask(max_tokens=10, blocks=3).json()["powercut"]["notes"]
    assert "blocks=3 does not divide max_new_tokens=10" in note
