"""Samplers from names and from settings as people write them."""

import math

import pytest

from powercut import EntropyCut, SettingError, Standard
from powercut.samplers.named import build_sampler


def test_values_may_be_texts_or_what_they_are():
    texts = {"alpha": "inf", "temperature": "0.25", "steps": "3", "top_k": "none", "early_reject": "false"}
    values = {"alpha": math.inf, "temperature": 0.25, "steps": 3, "top_k": None, "early_reject": False}
    assert build_sampler("entropy-cut", texts) == build_sampler("entropy-cut", values) == EntropyCut(**values)


@pytest.mark.parametrize("stop", ["\n", ["\n"], ("\n",)])
def test_a_stop_may_be_given_alone(stop):
    assert build_sampler("standard", {"stop": stop}) == Standard(stop=("\n",))
    assert build_sampler("standard", {"stop": 7}) == build_sampler("standard", {"stop": "id:7"}) == Standard(stop=(7,))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("entropy", {}, "there is no sampler 'entropy' (did you mean entropy-cut?): the samplers are standard, "),
        ("standard", {"beta": 1}, "beta is a setting of entropy-cut, smc, power-smc, not of standard"),
        ("standard", {"betta": 1}, "betta is not a setting of any sampler"),
        ("entropy-cut", {"steps": 1.5}, "steps must be a whole number (got 1.5)"),
        ("entropy-cut", {"alpha": "much"}, "alpha must be a number (got 'much')"),
        ("entropy-cut", {"look_ahead": "far"}, "look_ahead must be a whole number or auto (got 'far')"),
        ("entropy-cut", {"early_reject": "perhaps"}, "early_reject must be True or False (got 'perhaps')"),
        (
            "standard",
            {"top_k": None, "max_new_tokens": 0},
            "max_new_tokens must be a whole number of at least 1 (got 0)",
        ),
        ("standard", {"stop": "id:x"}, "stop id:N must name a token id (got 'id:x')"),
    ],
)
def test_what_cannot_be_used_is_named(name, settings, message):
    with pytest.raises(SettingError) as error:
        build_sampler(name, settings)
    assert str(error.value).startswith(message)
