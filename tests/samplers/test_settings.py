"""Settings that make no sense are refused in one line that names them; the others are kept as they are given."""

import dataclasses
import math
import pickle
import warnings

import numpy as np
import pytest

from powercut import (
    SMC,
    TMC,
    BestOfN,
    EntropyCut,
    LowTemperature,
    PowerSMC,
    Rejection,
    SettingError,
    Standard,
    UniformCut,
)
from powercut.samplers import SAMPLERS, Sampler

EVERY = (Standard, LowTemperature, EntropyCut, UniformCut, SMC, PowerSMC, TMC, BestOfN, Rejection)
POWER = (LowTemperature, EntropyCut, UniformCut, SMC, PowerSMC, TMC, Rejection)
PROPOSING = (LowTemperature, EntropyCut, UniformCut, SMC, TMC)
"""Those with alpha whose temperature may be given."""
TARGETED = (EntropyCut, UniformCut, SMC, PowerSMC, TMC, Rejection)
CUT = (EntropyCut, UniformCut)
UNBOUNDED = (LowTemperature, EntropyCut, UniformCut)
"""Those that take alpha = inf."""
PARTICLES = (SMC, PowerSMC)
NOT_NUMBERS = (math.nan, "4", None, True, False, [4], 1j)
NOT_WHOLE = (1.5, 2.0, math.nan, math.inf, "4", True, [4])

BAD = {
    "max_new_tokens": (EVERY, (0, -1, None, *NOT_WHOLE)),
    "top_k": (EVERY, (0, -1, *NOT_WHOLE)),
    "min_new_tokens": (EVERY, (-1, None, 1024, 9999, *NOT_WHOLE)),
    "stop": (EVERY, ("", (".", ""), None, 1.5, True, b"x", ("a", None), (1.0,))),
    "alpha": (POWER, (0.99, 0, -4, -math.inf, *NOT_NUMBERS)),
    "require": (
        (Standard, LowTemperature, EntropyCut, UniformCut, SMC, PowerSMC, BestOfN, Rejection),
        ("(", 1, [4]),
    ),
    "length_bonus": (TARGETED, (-101, 101, math.inf, -math.inf, *NOT_NUMBERS)),
    "temperature": (PROPOSING, (0, -1.0, math.inf, math.nan, "1", True, [1], 1j)),
    "steps": (CUT, (-1, None, *NOT_WHOLE)),
    "blocks": (CUT, (0, -1, None, *NOT_WHOLE)),
    "uniform_mix": (CUT, (-0.1, 1.1, math.inf, *NOT_NUMBERS)),
    "look_ahead": (CUT, (0, -1, None, "all", *NOT_WHOLE)),
    "tries": (CUT, (0, -1, None, *NOT_WHOLE)),
    "until": (CUT, (0, -1, *NOT_WHOLE)),
    "rule": (CUT, ("", "Exact", None, 1)),
    "refine_finished": (CUT, (1, None, "yes")),
    "beta": ((EntropyCut, *PARTICLES), (-0.1, 101, math.inf, *NOT_NUMBERS)),
    "particles": (PARTICLES, (0, None, *NOT_WHOLE)),
    "block_size": ((*PARTICLES, TMC), (0, None, *NOT_WHOLE)),
    "moves": (PARTICLES, (-1, None, *NOT_WHOLE)),
    "ess_threshold": (PARTICLES, (-0.1, 1.1, *NOT_NUMBERS)),
    "ramp_tokens": ((PowerSMC,), (-1, None, *NOT_WHOLE)),
    "candidates": ((TMC,), (0, None, *NOT_WHOLE)),
    "rollouts": ((TMC,), (0, None, *NOT_WHOLE)),
    "budget": ((BestOfN,), (0, *NOT_WHOLE)),
    "max_tries": ((Rejection,), (0, None, *NOT_WHOLE)),
}
"""By setting: who has it, and values that nobody can use."""


@pytest.mark.parametrize("name", BAD)
def test_a_bad_setting_is_refused_by_name(name):
    owners, values = BAD[name]
    for cls in owners:
        too_large = (1001, math.inf) if name == "alpha" and cls not in UNBOUNDED else ()
        for value in (*values, *too_large):
            with pytest.raises(SettingError) as error:
                cls(**{name: value})
            message = str(error.value)
            assert message.startswith((f"{name} must be ", f"{name}: ")), (cls, value)
            assert "\n" not in message
            if value not in ("", (".", "")):
                shown = value[-1] if isinstance(value, tuple) else value
                assert message.endswith(f"(got {shown!r})")


def test_a_count_that_fills_the_memory_is_refused():
    for cls in EVERY:
        for field in dataclasses.fields(cls):
            if field.metadata.get("whole"):
                for huge in (10**30, 10**5000):
                    with pytest.raises(SettingError, match=f"^{field.name} must be a whole number .*digits") as error:
                        cls(**{field.name: huge})
                    assert len(str(error.value)) < 120


ODD = (10**5000, -(10**5000), [10**5000], np.array([1, 2]), np.array("x"), b"\n", {}, object(), "\n" * 500)


@pytest.mark.parametrize("cls", EVERY)
def test_what_is_no_setting_at_all_is_one_short_line(cls):
    for field in dataclasses.fields(cls):
        for value in ODD:
            if field.name in ("stop", "answer", "require") and isinstance(value, str):
                continue
            if field.name == "stop" and isinstance(value, dict | np.ndarray):
                continue
            with pytest.raises(SettingError) as error:
                cls(**{field.name: value})
            assert "\n" not in str(error.value)
            assert len(str(error.value)) < 300


def test_every_number_among_the_settings_is_checked():
    """Each is in the table above, or shares its rule with one that is."""
    names = {field.name for cls in EVERY for field in dataclasses.fields(cls) if field.metadata["at_least"] is not None}
    assert names - set(BAD) == {"n", "keep", "horizon"}


@pytest.mark.parametrize("cls", UNBOUNDED)
def test_infinite_alpha_needs_a_temperature(cls):
    with pytest.raises(SettingError, match=r"^alpha = inf needs a temperature to propose at: give one") as error:
        cls(alpha=math.inf)
    assert "\n" not in str(error.value)
    assert cls(alpha=math.inf, temperature=0.25).proposal_temperature == 0.25


@pytest.mark.parametrize("cls", CUT)
def test_several_tries_need_a_finite_alpha(cls):
    with pytest.raises(SettingError, match=r"^tries > 1 .* needs a finite alpha$"):
        cls(alpha=math.inf, temperature=0.5, tries=2)
    assert cls(alpha=math.inf, temperature=0.5, tries=1).tries == 1


@pytest.mark.parametrize("cls", CUT)
@pytest.mark.parametrize("settings", [{"rule": "published"}, {"alpha": math.inf, "temperature": 0.5}])
def test_a_bonus_on_length_needs_the_exact_rule_and_a_finite_alpha(cls, settings):
    with pytest.raises(SettingError, match=r"^length_bonus needs rule exact and a finite alpha: leave it out"):
        cls(length_bonus=0.1, **settings)
    assert cls(length_bonus=0, **settings).length_bonus == 0


@pytest.mark.parametrize("cls", CUT)
@pytest.mark.parametrize("settings", [{"tries": 2}, {"alpha": math.inf, "temperature": 0.5}, {"require": "x"}])
def test_the_published_rule_has_one_try_and_a_finite_alpha(cls, settings):
    with pytest.raises(SettingError, match=r"^rule published goes with one try, a finite alpha and no require: "):
        cls(rule="published", **settings)
    assert cls(rule="published", look_ahead="auto").rule == "published"


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        *((cls, {"max_new_tokens": np.int64(16), "top_k": np.int32(3)}) for cls in EVERY),
        *((cls, {"alpha": 1, "temperature": 3}) for cls in PROPOSING),
        *((cls, {"alpha": np.float32(2.5), "temperature": np.float64(0.5)}) for cls in PROPOSING),
        *((cls, {"steps": 0, "blocks": 1, "uniform_mix": 0}) for cls in CUT),
        *((cls, {"steps": np.int64(3), "uniform_mix": 1}) for cls in CUT),
        *((cls, {"look_ahead": ahead}) for cls in CUT for ahead in (1, 5, "auto")),
        *((cls, {"beta": beta}) for cls in (EntropyCut, *PARTICLES) for beta in (0, 0.5, 100)),
        *((cls, {"tries": np.int64(3)}) for cls in CUT),
        *((cls, {"particles": 1, "block_size": 1, "ess_threshold": 0, "moves": 0}) for cls in PARTICLES),
        *((cls, {"particles": np.int64(7), "ess_threshold": 1, "moves": np.int32(2)}) for cls in PARTICLES),
        *((PowerSMC, {"ramp_tokens": ramp, "alpha": 1000}) for ramp in (0, 1, np.int64(9999))),
        (Standard, {"top_k": None}),
    ],
)
def test_settings_at_the_edge_are_kept(cls, settings):
    sampler = cls(**settings)
    assert {name: getattr(sampler, name) for name in settings} == settings


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((), ()),
        ("done", ("done",)),
        (7, (7,)),
        (np.int64(7), (7,)),
        (["a", 7], ("a", 7)),
        (("a", np.int64(7)), ("a", 7)),
        (iter, ("a", "b")),
        (np.array([3, 4]), (3, 4)),
    ],
    ids=repr,
)
def test_stops_become_a_tuple(given, kept):
    for cls in EVERY:
        sampler = cls(stop=iter(kept) if given is iter else given)
        assert sampler.stop == kept
        assert {type(stop) for stop in sampler.stop} <= {str, int}
        hash(sampler)


@pytest.mark.parametrize(
    ("tokens", "blocks", "horizons", "shown"),
    [
        (10, 4, (2, 5, 8, 10), "2, 5, 8, 10"),
        (5, 3, (2, 3, 5), "2, 3, 5"),
        (3, 5, (1, 2, 3), "1, 2, 3"),
        (1, 16, (1,), "1"),
        (1000, 16, None, "62, 125, 188, ..., 1000"),
    ],
)
@pytest.mark.parametrize("cls", CUT)
def test_blocks_that_do_not_divide_are_rounded_with_a_warning(cls, tokens, blocks, horizons, shown):
    with pytest.warns(UserWarning, match="does not divide") as caught:
        sampler = cls(max_new_tokens=tokens, blocks=blocks)
    (warning,) = caught
    assert str(warning.message) == (
        f"blocks={blocks} does not divide max_new_tokens={tokens}: horizons are rounded to {shown}"
    )
    assert warning.filename == __file__  # it points at whoever gave the setting
    assert horizons is None or sampler.horizons == horizons


def test_horizons_rise_to_the_end_in_nearly_equal_blocks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tokens in range(1, 40):
            for blocks in range(1, 45):
                horizons = EntropyCut(max_new_tokens=tokens, blocks=blocks).horizons
                sizes = np.diff((0, *horizons))
                assert horizons[-1] == tokens
                assert len(horizons) == min(tokens, blocks)
                assert sizes.min() >= 1
                assert sizes.max() - sizes.min() <= 1 + (tokens > blocks)
    assert UniformCut(max_new_tokens=3072, blocks=16).horizons == tuple(range(192, 3073, 192))


@pytest.mark.parametrize("cls", EVERY)
def test_samplers_are_values(cls):
    sampler = cls(max_new_tokens=32, stop="x")
    same = cls(max_new_tokens=32, stop=("x",))
    assert sampler == same
    assert hash(sampler) == hash(same)
    assert sampler != cls(max_new_tokens=64, stop="x")
    assert pickle.loads(pickle.dumps(sampler)) == sampler
    assert dataclasses.replace(sampler) == sampler
    assert eval(repr(sampler)) == sampler
    with pytest.raises(dataclasses.FrozenInstanceError):
        sampler.max_new_tokens = 1
    with pytest.raises(TypeError):
        cls(32)
    with pytest.raises(TypeError):
        cls(beta_=1)


def test_samplers_of_different_kinds_differ():
    assert EntropyCut() != UniformCut()
    assert Standard() != LowTemperature()


@pytest.mark.parametrize(
    ("tokens", "block", "horizons"),
    [(10, 4, (4, 8, 10)), (8, 4, (4, 8)), (3, 32, (3,)), (3, 1, (1, 2, 3)), (1, 1, (1,))],
)
@pytest.mark.parametrize("cls", PARTICLES)
def test_particles_are_looked_at_after_every_block(cls, tokens, block, horizons):
    assert cls(max_new_tokens=tokens, block_size=block).horizons == horizons


def test_the_power_rises_to_alpha_and_stays_there():
    sampler = PowerSMC(alpha=5, ramp_tokens=8, block_size=3, max_new_tokens=16)
    powers = [sampler.target_at(horizon).alpha for horizon in sampler.horizons]
    assert sampler.horizons == (3, 6, 9, 12, 15, 16)
    assert powers == [1 + 4 * 3 / 8, 1 + 4 * 6 / 8, 5, 5, 5, 5]
    assert [sampler.target_at(h).temperature for h in sampler.horizons] == [1 / power for power in powers]
    assert PowerSMC(alpha=5, ramp_tokens=0).target_at(1).alpha == 5
    # however the ramp rounds, its end is alpha itself
    assert all(PowerSMC(alpha=alpha, ramp_tokens=7).target_at(7).alpha == alpha for alpha in (1.1, 3.3, 4, 999.9))


@pytest.mark.parametrize("cls", PROPOSING)
def test_the_default_temperature_is_one_over_alpha(cls):
    assert cls(alpha=5).proposal_temperature == 1 / 5
    assert cls(alpha=5, temperature=0.7).proposal_temperature == 0.7
    assert Standard().proposal_temperature == 1


def test_the_registry_names_every_sampler():
    named = {
        "standard": Standard,
        "low-temperature": LowTemperature,
        "entropy-cut": EntropyCut,
        "uniform-cut": UniformCut,
        "smc": SMC,
        "power-smc": PowerSMC,
        "tmc": TMC,
        "best-of-n": BestOfN,
        "rejection": Rejection,
    }
    assert dict(SAMPLERS) == named
    for cls in SAMPLERS.values():
        assert issubclass(cls, Sampler)
        assert all(field.metadata["help"].endswith(".") for field in dataclasses.fields(cls))
