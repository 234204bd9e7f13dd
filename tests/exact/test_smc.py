"""SMC, PowerSMC and resample-move against enumeration.

First without any chance: every path that the sampler can take on a small model, with its probability
(``study/paths.py``). With X the completion returned and Z-hat = exp(log_z), exact samplers have

    E[Z-hat 1{X = x}] = p(x)^alpha e^(b n)    for every x,

so E[Z-hat] = Z, whatever the number of particles. Then through ``pc.sample``: each of these tests has the false-alarm
probability ALARM. Every kind of test has a control that must fail.
"""

import dataclasses

import numpy as np
import pytest

import powercut as pc
from powercut.study.exact import EOS, enumerate_completions, kernel_matrix
from powercut.study.paths import every_path
from powercut.study.reference import DoubleCounted, OpenMoves
from tests.checks import chi_square_p, count, evidence, grid, random_table

ALARM = 1e-6
PROMPT = (1,)
SMALL = {"particles": 2, "block_size": 1, "max_new_tokens": 2}


def exact_law(sampler, probs):
    """(E[Z-hat; X = x], P(X = x), p(x)^alpha) over all completions x, and how often each path looked at its weights."""
    space = enumerate_completions(probs, PROMPT, sampler.max_new_tokens, 1.0, sampler.top_k, sampler.min_new_tokens)
    bonus = sampler.length_bonus * np.array([len(x) for x in space.completions])
    weighed, law = np.zeros((2, len(space.completions)))
    looks = set()
    for prob, c in every_path(probs, lambda engine, rng: sampler(engine, np.array(PROMPT), rng)):
        i = space.index[tuple(c.tokens.tolist())]
        weighed[i] += prob * np.exp(c.stats.log_z)
        law[i] += prob
        looks.add(tuple(ess < sampler.ess_threshold * sampler.particles for ess in c.stats.ess[:-1]))
    return weighed, law, np.exp(sampler.alpha * space.logp + bonus), looks


THREE = SMALL | {"max_new_tokens": 3}
EXACT = [
    # never, sometimes, always resampled (at 1/alpha, weights differ from the second token on only)
    *(pc.SMC(alpha=3, **THREE | s) for s in grid(particles=[1, 2, 3], ess_threshold=[0, 0.8, 1])),
    *(pc.SMC(alpha=3, ess_threshold=1, **THREE | s) for s in grid(block_size=[2, 3, 32], temperature=[None, 0.8])),
    # proposals from the model, between, hotter than the model, colder than 1/alpha
    *(pc.SMC(ess_threshold=1, **SMALL, **s) for s in grid(alpha=[1, 4], temperature=[1, 0.6, 2.5, 0.1])),
    *(
        pc.SMC(alpha=2, **SMALL | s)
        for s in grid(particles=[1], moves=[1], temperature=[None, 0.8, 2.5, 0.1], beta=[0, 4])
    ),
    pc.SMC(alpha=2, moves=2, **SMALL | {"particles": 1}),
    pc.SMC(alpha=2, particles=1, moves=1, max_new_tokens=3, block_size=1),
    pc.SMC(alpha=2, moves=1, ess_threshold=1, temperature=0.8, **SMALL),
    pc.SMC(alpha=4, moves=1, ess_threshold=0.9, temperature=1, **SMALL),
    # a ramp of none, as many, and more tokens than a completion has; quantised to blocks
    *(pc.PowerSMC(alpha=3, **SMALL, **s) for s in grid(ramp_tokens=[0, 1, 2, 5], ess_threshold=[0.9, 1])),
    *(pc.PowerSMC(alpha=3, **THREE | s) for s in grid(ramp_tokens=[2, 3, 400], particles=[2, 3], block_size=[1, 2])),
    *(
        pc.PowerSMC(alpha=3, moves=1, **THREE | s)
        for s in grid(particles=[1], ramp_tokens=[0, 2, 5], block_size=[1, 2])
    ),
    pc.PowerSMC(alpha=3, ramp_tokens=2, ess_threshold=1, moves=1, **SMALL),
    pc.PowerSMC(alpha=1, ramp_tokens=2, ess_threshold=1, moves=1, **SMALL),
    # weights that are not all the same after it
    *(pc.SMC(alpha=3, resampling="chopthin", **THREE | s) for s in grid(particles=[1, 2, 3], ess_threshold=[0.8, 1])),
    pc.SMC(alpha=4, resampling="chopthin", ess_threshold=1, temperature=1, **SMALL),
    pc.PowerSMC(alpha=3, resampling="chopthin", ess_threshold=1, ramp_tokens=2, **THREE),
    pc.SMC(alpha=2, resampling="chopthin", moves=1, ess_threshold=1, temperature=0.8, **SMALL),
    # targets with a shape
    *(pc.SMC(alpha=3, **THREE | s) for s in grid(length_bonus=[-0.7, 0.9], min_new_tokens=[0, 1, 2])),
    *(pc.PowerSMC(alpha=3, ramp_tokens=2, **THREE | s) for s in grid(length_bonus=[0.9], min_new_tokens=[0, 1])),
    pc.SMC(alpha=2, moves=1, length_bonus=0.9, **SMALL | {"particles": 1}),
    pc.PowerSMC(alpha=2, moves=1, length_bonus=-0.7, min_new_tokens=1, ramp_tokens=2, **SMALL),
]


def name(sampler):
    if not isinstance(sampler, pc.Sampler):
        return None
    given = {k: v for k, v in vars(sampler).items() if v != type(sampler).__dataclass_fields__[k].default}
    return "-".join([type(sampler).__name__, *(f"{k}={v}" for k, v in given.items())])


@pytest.mark.parametrize("sampler", EXACT, ids=name)
def test_what_is_returned_weighs_what_it_should(sampler):
    weighed, _, gamma, _ = exact_law(sampler, random_table(1, 2))
    assert np.abs(weighed - gamma).max() < 1e-12


@pytest.mark.parametrize("seed", [2, 3, 4])
@pytest.mark.parametrize("sampler", [pc.SMC(alpha=3, **SMALL), pc.PowerSMC(alpha=3, ramp_tokens=2, **SMALL)], ids=name)
def test_so_it_does_with_more_tokens_to_choose_from(sampler, seed):
    for probs, top_k in ((random_table(seed, 3, zeros=True), 50), (random_table(seed, 4), 2)):
        weighed, _, gamma, _ = exact_law(dataclasses.replace(sampler, top_k=top_k), probs)
        assert np.abs(weighed - gamma).max() < 1e-12


def test_some_of_the_paths_are_resampled_and_others_are_not():
    *_, looks = exact_law(pc.SMC(alpha=3, ess_threshold=0.8, temperature=0.8, **THREE), random_table(1, 2))
    assert {look for path in looks for look in path} == {True, False}


def test_negative_control_weights_counted_twice_fail_the_same_check():
    for seed in (1, 2, 3):
        weighed, _, gamma, _ = exact_law(
            DoubleCounted(alpha=3, ess_threshold=1, temperature=0.8, **SMALL), random_table(seed, 2)
        )
        assert np.abs(weighed - gamma).max() > 1e-4
        # and never resampled, it is SMC
        weighed, _, gamma, _ = exact_law(
            DoubleCounted(alpha=3, ess_threshold=0, temperature=0.8, **SMALL), random_table(seed, 2)
        )
        assert np.abs(weighed - gamma).max() < 1e-12


@pytest.mark.parametrize("particles", [1, 2])
def test_negative_control_moves_that_depend_on_the_particles_fail_the_same_check(particles):
    settings = SMALL | {"alpha": 2, "particles": particles, "moves": 1}
    weighed, _, gamma, _ = exact_law(OpenMoves(**settings), random_table(1, 2))
    assert np.abs(weighed - gamma).max() > 1e-4


@pytest.mark.parametrize("sampler", [pc.SMC(alpha=4, **THREE), pc.PowerSMC(alpha=4, ramp_tokens=3, **THREE)], ids=name)
def test_the_law_comes_closer_with_every_particle(sampler):
    distances = []
    for particles in (1, 2, 3, 4):
        _, law, gamma, _ = exact_law(dataclasses.replace(sampler, particles=particles), random_table(1, 2))
        distances.append(np.abs(law - gamma / gamma.sum()).sum() / 2)
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < distances[0] / 3


@pytest.mark.parametrize("moves", [1, 2])
@pytest.mark.parametrize("beta", [0, 4])
def test_moves_apply_the_kernel_to_what_is_returned(moves, beta):
    """One particle, one block: its law is that of the proposal, times the kernel's matrix."""
    probs, sampler = random_table(5, 3), pc.SMC(alpha=3, beta=beta, particles=1, max_new_tokens=2)
    _, before, _, _ = exact_law(sampler, probs)
    _, after, _, _ = exact_law(dataclasses.replace(sampler, moves=moves), probs)
    space = enumerate_completions(probs, PROMPT, 2, 1 / 3)
    step = kernel_matrix(space, pc.EntropyCut(alpha=3, beta=beta, blocks=1, max_new_tokens=2))
    assert np.abs(after - before @ np.linalg.matrix_power(step, moves)).max() < 1e-12


LONG = {"max_new_tokens": 6, "block_size": 2}


def draw(sampler, probs, n):
    return pc.sample(pc.TableEngine(probs, EOS), sampler, [PROMPT], n=n, seed=0)


@pytest.mark.parametrize(
    "sampler",
    [
        pc.SMC(alpha=2, particles=8, **LONG),
        pc.SMC(alpha=2, particles=8, ess_threshold=0, **LONG),
        pc.SMC(alpha=2, particles=4, ess_threshold=1, moves=1, **LONG),
        pc.SMC(alpha=2, particles=8, ess_threshold=1, resampling="chopthin", temperature=1, **LONG),
        pc.SMC(alpha=2, temperature=0.7, particles=8, **LONG),
        pc.PowerSMC(alpha=2, particles=8, ramp_tokens=5, **LONG),
        pc.PowerSMC(alpha=2, particles=4, ess_threshold=1, ramp_tokens=9, moves=1, **LONG),
    ],
    ids=name,
)
def test_log_z_is_unbiased_end_to_end(sampler):
    probs = random_table(58, 3)
    space = enumerate_completions(probs, PROMPT, 6, sampler.proposal_temperature)
    z = np.exp(2 * space.logp).sum()
    estimates = np.exp([c.stats.log_z for c in draw(sampler, probs, 300)])
    assert evidence(estimates, z) < 1 / ALARM  # no weight is above 1: increments are never positive
    assert evidence(estimates, 1.15 * z) > 1 / ALARM  # controls
    assert evidence(estimates, z / 1.15) > 1 / ALARM


def test_negative_control_weights_counted_twice_fail_end_to_end():
    probs = random_table(58, 3)
    z = np.exp(2 * enumerate_completions(probs, PROMPT, 6, 0.5).logp).sum()
    drawn = draw(DoubleCounted(alpha=2, particles=8, ess_threshold=1, **LONG), probs, 300)
    assert evidence(np.exp([c.stats.log_z for c in drawn]), z) > 1 / ALARM


@pytest.mark.parametrize(
    "sampler",
    [
        pc.SMC(particles=24, max_new_tokens=3, block_size=1),
        pc.PowerSMC(particles=24, max_new_tokens=3, block_size=1, ramp_tokens=2),
        pc.SMC(particles=1, moves=12, max_new_tokens=3),
        pc.PowerSMC(particles=1, moves=8, max_new_tokens=3, block_size=2, ramp_tokens=3),
    ],
    ids=name,
)
def test_many_particles_or_many_moves_have_the_power_distribution(sampler):
    probs, n = random_table(48, 3), 150
    space = enumerate_completions(probs, PROMPT, 3, 0.25)
    pi = space.power(4)
    assert chi_square_p(count(space, draw(sampler, probs, n)), pi) > ALARM
    alone = dataclasses.replace(sampler, particles=1, moves=0)  # control
    assert chi_square_p(count(space, draw(alone, probs, n)), pi) < ALARM
