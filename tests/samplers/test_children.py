"""A chain's randomness: the children that numpy would spawn, of which only those are made that are looked at."""

import asyncio
import tracemalloc

import numpy as np
import pytest

import powercut as pc
from powercut.samplers.children import Children
from powercut.samplers.moves import Moves
from powercut.study.exact import EOS
from tests.checks import random_table

SEEDS = {
    "number": lambda: np.random.default_rng(5),
    "place": lambda: np.random.default_rng(np.random.SeedSequence(5, spawn_key=(3, 2))),
    "child": lambda: np.random.default_rng(5).spawn(3)[2].spawn(2)[1],
    "philox": lambda: np.random.Generator(np.random.Philox(np.random.SeedSequence([5, 6], pool_size=8))),
}
each_seed = pytest.mark.parametrize("seeded", SEEDS.values(), ids=SEEDS)


def drawn(rng):
    """Numbers of a generator, and of its own children."""
    return [*rng.integers(2**63, size=3), *(child.random() for child in rng.spawn(2))]


@each_seed
def test_children_are_those_that_are_spawned(seeded):
    expected = [drawn(child) for child in seeded().spawn(20)]
    children = Children(seeded(), 20)
    assert len(children) == 20
    for at in (19, 0, 7, 7, *range(20)):  # in any order, each time from its beginning
        assert drawn(children[at]) == expected[at]
    with pytest.raises(IndexError):
        children[20]


@each_seed
def test_children_come_after_those_that_were_spawned_before(seeded):
    once, again = seeded(), seeded()
    once.spawn(4)
    expected = again.spawn(24)[4:]
    assert [drawn(child) for child in Children(once, 20)] == [drawn(child) for child in expected]


@each_seed
def test_each_move_has_the_next_child(seeded):
    expected = [drawn(child) for child in seeded().spawn(12)]
    moves = Moves((4, 8, 12), 3, seeded())
    assert [drawn(move.rng) for move in moves] == expected
    assert [(move.stage, move.horizon, move.extends) for move in moves][3:6] == [
        (0, 4, False),
        (1, 8, True),
        (1, 8, False),
    ]


@pytest.mark.parametrize(
    "sampler",
    [
        pc.EntropyCut(max_new_tokens=8, blocks=2, steps=1_000_000, top_k=4, refine_finished=True),
        pc.SMC(max_new_tokens=8, block_size=4, particles=2, moves=1_000_000),
    ],
)
def test_moves_that_are_not_looked_at_cost_nothing(sampler):
    """Where nothing can change, a million steps are null."""
    engine = pc.TableEngine(lambda context: [0.0, 1.0] if len(context) < 6 else [1.0, 0.0], EOS)
    tracemalloc.start()
    [completion] = pc.sample(engine, sampler, [[1]])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert completion.stats.null_steps >= 1_000_000
    assert peak < 20e6  # a million generators take more than ten times that


@pytest.mark.parametrize("name", pc.samplers.SAMPLERS)
def test_a_generator_is_for_one_completion(name):
    needed = {"entropy-cut": {"blocks": 1}, "uniform-cut": {"blocks": 1}, "best-of-n": {"n": 2}}
    sampler = pc.samplers.SAMPLERS[name](max_new_tokens=4, **needed.get(name, {}))
    engine, rng = pc.TableEngine(random_table(8, 4), EOS), np.random.default_rng(1)
    asyncio.run(sampler(engine, np.array([1]), rng))
    with pytest.raises(pc.SettingError, match=r"rng was used before: .*rng.spawn"):
        asyncio.run(sampler(engine, np.array([1]), rng))
