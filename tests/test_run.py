"""Many prompts at once: order, seeds, concurrency, budgets of tokens, running loops, over the table engine."""

import asyncio
import itertools

import numpy as np
import pytest

import powercut as pc
from powercut.run import run
from tests.checks import random_table
from tests.letters import Letters
from tests.watched import SAMPLER, Watched, collect, each_sampler, place, tokens

# Order, n, seeds


@each_sampler
def test_completions_come_prompt_by_prompt(sampler):
    completions = pc.sample(Watched(), sampler, [[1], [3, 1], (0, 1, 3)], n=2)
    assert [place(c) for c in completions] == list(itertools.product(range(3), range(2)))
    assert all(c.text is None for c in completions)


def test_astream_yields_each_completion_once():
    outcomes = collect(Watched(), [[1]] * 5, n=3)
    assert sorted(map(place, outcomes)) == list(itertools.product(range(5), range(3)))


def test_astream_yields_as_chains_finish():
    engine = Watched(concurrency=1, eos=())

    async def first():
        outcome = await anext(pc.astream(engine, pc.Standard(max_new_tokens=2), [[1]] * 10))
        return outcome, engine.usage.decoded

    outcome, decoded = asyncio.run(first())
    assert place(outcome) == (0, 0)
    assert decoded < 20  # the others had not all been drawn by then


@each_sampler
def test_a_sample_depends_on_the_seed_and_its_place_alone(sampler):
    prompts = [[1], [1], [3, 0, 1]]
    whole = tokens(pc.sample(Watched(), sampler, prompts, n=4, seed=7))
    for count, n in [(1, 1), (2, 3), (3, 2)]:
        part = tokens(pc.sample(Watched(concurrency=1), sampler, prompts[:count], n=n, seed=7))
        assert part == {(i, j): whole[i, j] for i in range(count) for j in range(n)}


def test_places_and_seeds_draw_differently():
    sampler = pc.Standard(max_new_tokens=12)
    engine = Watched(eos=())
    drawn = [c.tokens.tolist() for s in (0, 1) for c in pc.sample(engine, sampler, [[1], [1]], n=2, seed=s)]
    assert len({tuple(t) for t in drawn}) == 8
    assert drawn[:4] == [
        c.tokens.tolist() for c in pc.sample(engine, sampler, [[1], [1]], n=2)
    ]  # seed 0 is the default


@pytest.mark.parametrize("seed", [0, 2**63, 2**200, np.int64(5)])
def test_any_whole_seed_will_do(seed):
    assert len(pc.sample(Watched(), pc.Standard(max_new_tokens=2), [[1]], seed=seed)) == 1


def test_no_prompts_no_completions():
    assert pc.sample(Watched(), SAMPLER, [], n=3) == []
    assert collect(Watched(), iter([])) == []


def test_prompts_may_come_from_any_iterable():
    listed = tokens(pc.sample(Watched(), SAMPLER, [[1], [3]]))
    assert tokens(pc.sample(Watched(), SAMPLER, (p for p in ([1], np.array([3]))))) == listed


# Concurrency


@pytest.mark.parametrize(("concurrency", "chains"), [(1, 4), (3, 10), (64, 10)])
def test_no_more_chains_at_once_than_the_engine_decodes(concurrency, chains):
    engine = Watched(concurrency, eos=())  # with stops a chain may be between two requests when the last one starts
    pc.sample(engine, SAMPLER, [[1], [3]], n=chains // 2)
    assert engine.most_busy == min(concurrency, chains)
    assert engine.busy == 0


def test_chains_start_in_order():
    engine = Watched(concurrency=2, eos=())
    pc.sample(engine, pc.Standard(max_new_tokens=3), [[3, i] for i in (0, 1, 2, 3)], n=2)
    assert engine.opened == [(3, i) for i in (0, 0, 1, 1, 2, 2, 3, 3)]


def test_concurrency_bounds_the_chains():
    engine = Watched(concurrency=8)
    collect(engine, [[1]], n=12, concurrency=3)
    assert engine.most_busy == 3


def test_a_token_budget_starts_no_chain_after_it_is_spent():
    free = Watched()
    whole = tokens(collect(free, [[1]], n=12))
    engine = Watched()
    outcomes = collect(engine, [[1]], n=12, concurrency=2, max_total_tokens=free.usage.decoded // 2)
    done = [o for o in outcomes if isinstance(o, pc.Completion)]
    late = [o for o in outcomes if isinstance(o, pc.Failure)]
    assert done
    assert late
    assert all(isinstance(o.error, pc.BudgetError) and "max_total_tokens" in str(o.error) for o in late)
    assert {o.sample_index for o in done} == set(range(len(done)))  # in order, and none cut short
    assert all(tokens(done)[key] == whole[key] for key in tokens(done))
    longest = max(c.stats.tokens_decoded for c in done)
    assert engine.usage.decoded < free.usage.decoded // 2 + 2 * longest


def test_a_token_budget_counts_the_tokens_of_its_own_run_alone():
    class Shared(Watched):
        """Another run decodes a lot on the same engine meanwhile."""

        async def extend(self, request, keep_going=None):
            self.usage.decoded += 1_000_000
            return await super().extend(request, keep_going)

    outcomes = collect(Shared(), [[1]], n=4, concurrency=1, max_total_tokens=100_000)
    assert all(isinstance(outcome, pc.Completion) for outcome in outcomes)


def test_a_token_budget_counts_what_is_decoded():
    """Not the tokens by which proposals leave the text, which were known: one short of it another chain starts."""
    settings = {"n": 4, "concurrency": 1}
    first, second, *_ = sorted(collect(Watched(), [[1]], **settings), key=lambda c: c.sample_index)
    assert first.steps
    spent = first.stats.tokens_decoded
    for budget, count in ((spent, 1), (spent + 1, 2), (spent + second.stats.tokens_decoded, 2)):
        outcomes = collect(Watched(), [[1]], **settings, max_total_tokens=budget)
        assert sum(isinstance(outcome, pc.Completion) for outcome in outcomes) == count


# Running loops


def test_sample_works_inside_a_running_loop():
    async def notebook():
        return pc.sample(Watched(), SAMPLER, [[1]], n=2)

    assert tokens(asyncio.run(notebook())) == tokens(pc.sample(Watched(), SAMPLER, [[1]], n=2))


def test_run_gives_back_any_result():
    async def work():
        return 5

    async def nested():
        return run(work())

    assert run(work()) == asyncio.run(nested()) == 5


# Text


def test_text_is_shown_up_to_the_first_stop_string():
    engine = Watched(eos=())
    engine.text = Letters("abcd")
    engine.check = lambda request: None  # the table itself looks for no text: the completion runs on behind the stop
    engine.extend = lambda request, keep_going=None: pc.TableEngine(random_table(3, 4)).extend(
        pc.Request(request.context, request.max_new_tokens, seed=request.seed), keep_going
    )
    for completion in pc.sample(engine, pc.Standard(max_new_tokens=12, stop=("c", "ad")), ["bd"], n=10):
        whole = Letters("abcd").decode_now(completion.tokens)
        ends = [at for at in (whole.find("c"), whole.find("ad")) if at >= 0]
        assert completion.text == whole[: min(ends, default=12)]
