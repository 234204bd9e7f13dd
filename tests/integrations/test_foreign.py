"""What other frameworks ask for: used, noted once as not used, or refused."""

import logging

import pytest

import powercut as pc
from powercut.errors import SettingError
from powercut.integrations.foreign import SamplerFor, Seeds, read_messages


def sampler_for(**settings):
    return SamplerFor("entropy-cut", {"max_new_tokens": 6, "blocks": 2, **settings}, "with -M")


def test_lengths_stops_and_own_settings_are_used():
    own = sampler_for(stop=["h"])
    assert own.plain == pc.EntropyCut(max_new_tokens=6, blocks=2, stop=("h",))
    assert own.request({"model": "m", "stream": True, "n": 1}) is own.plain
    for asked in ({"max_tokens": 4}, {"max_completion_tokens": 4}, {"max_gen_toks": 4}):
        assert own.request(asked).max_new_tokens == 4
    for asked in ({"stop": "a"}, {"stop_seqs": ["a"]}, {"until": ["a", ""]}):
        assert own.request(asked).stop == ("h", "a")
    assert own.request({"max_tokens": 4}, {"alpha": 2, "max_new_tokens": 2}) == pc.EntropyCut(
        max_new_tokens=2, blocks=2, alpha=2, stop=("h",)
    )


def test_what_the_sampler_decides_is_noted_once(caplog):
    own = sampler_for()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert own.request({"temperature": 0.0, "top_p": 0.5, "top_k": None}) is own.plain
    assert [record.getMessage() for record in caplog.records] == [
        f"{what} is not used: the sampler entropy-cut decides it, by settings given with -M"
        for what in ("temperature=0.0", "top_p=0.5")
    ]


def test_what_no_sampler_can_do_is_refused():
    own = sampler_for()
    nothing = {"logprobs": False, "best_of": 1, "num_choices": None, "logit_bias": None}
    nothing |= {"frequency_penalty": 0.0, "repetition_penalty": 1, "response_format": {"type": "text"}}
    assert own.request(nothing) is own.plain
    for asked in ({"best_of": 2}, {"logprobs": True}, {"presence_penalty": 0.1}, {"response_format": {"type": "json"}}):
        with pytest.raises(SettingError, match=f"{next(iter(asked))} is not supported by powercut: leave it out"):
            own.request(asked)
    with pytest.raises(SettingError, match="max_new_tokens must be a whole number"):
        own.request({"max_tokens": "many"})


def test_messages():
    parts = [{"type": "text", "text": "a"}, {"type": "reasoning", "text": "?"}, {"type": "text", "text": "b"}]
    read = read_messages([{"role": "system", "content": "s"}, {"role": "user", "content": parts}])
    assert read == [{"role": "system", "content": "s"}, {"role": "user", "content": "ab"}]
    with pytest.raises(SettingError, match="powercut reads no results of tools"):
        read_messages([{"role": "tool", "content": "4"}])
    with pytest.raises(SettingError, match="parts of text alone: no images, audio or files"):
        read_messages([{"role": "user", "content": [{"type": "image_url"}]}])


def test_seeds_differ_from_request_to_request_and_come_again_in_every_run():
    def made():
        seeds = Seeds()
        return [seeds.next(prompt, seed) for prompt, seed in (([1], 0), ([1], 0), ([2], 0), ([1], 1))]

    assert made() == made()
    assert len(set(made())) == 4
    assert all(0 <= seed < 2**53 for seed in made())
