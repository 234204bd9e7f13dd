"""Completions of one prompt, drawn until their answers agree: which ones, how many, and at what cost."""

import asyncio
import itertools

import numpy as np
import pytest
from scipy.stats import beta

import powercut as pc
from powercut.agreement import Agenda, Agreement, lead
from powercut.study.exact import EOS
from tests.checks import random_table
from tests.letters import Letters

LETTERS = ".abc"
"""0, the stop, is shown as a full stop."""


class Scrambled(pc.TableEngine):
    """A table that ends requests in scrambled order."""

    def __init__(self, order=0, concurrency=64):
        super().__init__(random_table(8, 4), EOS, concurrency=concurrency, text=Letters(LETTERS))
        self._order = np.random.default_rng(order)
        self.asked = 0

    async def extend(self, request, keep_going=None):
        self.asked += 1
        for _ in range(self._order.integers(12)):
            await asyncio.sleep(0)
        return await super().extend(request, keep_going)


SAMPLER = pc.Standard(max_new_tokens=4, answer="^.")


def drawn(engine=None, sampler=SAMPLER, prompts=((1,), (2,), (3, 1)), n=12, seed=5, **options):
    return pc.sample(engine or Scrambled(), sampler, prompts, n=n, seed=seed, **options)


def shown(completions):
    return [(c.prompt_index, c.sample_index, c.tokens.tolist(), c.stats.agreement) for c in completions]


@pytest.mark.parametrize(("first", "second"), [*itertools.product([0, 1, 3, 10, 200], [0, 1, 3, 10])])
def test_the_lead_is_that_of_the_beta_law(first, second):
    assert lead(first, second) == pytest.approx(beta.sf(0.5, first + 1, second + 1), rel=1e-12)


def test_they_are_the_first_whose_answers_agree():
    every, few = drawn(), drawn(agree=0.9)
    ends = []
    for prompt in range(3):
        answers = [c.text[0] for c in every if c.prompt_index == prompt]
        leads = []
        for k in range(1, 13):
            first, second = sorted((answers[:k].count(letter) for letter in LETTERS), reverse=True)[:2]
            leads.append(lead(first, second))
        end = next((k + 1 for k in range(12) if leads[k] >= 0.9), 12)
        own = [c for c in few if c.prompt_index == prompt]
        assert [c.stats.agreement for c in own] == leads[:end]
        assert [c.tokens.tolist() for c in own] == [c.tokens.tolist() for c in every if c.prompt_index == prompt][:end]
        ends.append(end)
    assert min(ends) < 12
    assert len(set(ends)) > 1


@pytest.mark.parametrize("sampler", [SAMPLER, pc.EntropyCut(alpha=2, steps=3, blocks=2, max_new_tokens=4, answer="^.")])
def test_which_they_are_does_not_depend_on_who_is_done_first_and_none_is_drawn_in_vain(sampler):
    wanted = shown(drawn(sampler=sampler, agree=0.8))
    for order in (1, 2):
        engine = Scrambled(order)
        got = drawn(engine, sampler, agree=0.8)
        assert shown(got) == wanted
        assert sum(c.stats.tokens_decoded for c in got) == engine.usage.decoded
    assert shown(drawn(Scrambled(3, concurrency=1), sampler, agree=0.8, concurrency=1)) == wanted


def test_none_is_started_that_may_not_count():
    agreement = Agreement(10, 0.95)
    assert [agreement.start() for _ in range(6)] == [0, 1, 2, 3, None, None]  # four could agree
    assert list(agreement.add(1, "b", "x")) == []  # its turn has not come
    assert list(agreement.add(0, "a", "y")) == [("a", 0.75), ("b", 0.5)]
    assert [agreement.start() for _ in range(4)] == [4, 5, 6, None]  # six more for x, one for y
    for sample in range(2, 7):
        list(agreement.add(sample, "c", "x"))
    assert agreement.over
    assert agreement.start() is None


def test_without_agree_they_come_in_order_and_as_they_are_done():
    async def work():
        agenda = Agenda(2, 3, None)
        places = [await agenda.next() for _ in range(7)]
        return places, list(agenda.add((1, 2), "done", None))

    places, done = asyncio.run(work())
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), None]
    assert done == ["done"]


def test_texts_without_an_answer_do_not_agree():
    completions = drawn(sampler=pc.Standard(max_new_tokens=4, answer=lambda text: None), agree=0.95)
    assert len(completions) == 36
    assert {c.stats.agreement for c in completions} == {0.5}


def test_a_chain_that_fails_is_no_vote():
    def answer(text):
        if text.startswith("a"):
            raise ZeroDivisionError("a bug")
        return text[0]

    async def work():
        sampler = pc.Standard(max_new_tokens=4, answer=answer)
        return [each async for each in pc.astream(Scrambled(), sampler, [(1,)], n=12, seed=5, agree=0.95)]

    outcomes = asyncio.run(work())
    assert [each.sample_index for each in outcomes] == list(range(len(outcomes)))
    failed = [each for each in outcomes if isinstance(each, pc.Failure)]
    assert failed
    assert {type(each.error) for each in failed} == {ZeroDivisionError}


def test_what_makes_no_sense_is_refused():
    for agree in (0.4, 1.5, "x", True):
        with pytest.raises(pc.SettingError, match=r"agree must be a number from 0\.5 to 1"):
            drawn(agree=agree)
    with pytest.raises(pc.SettingError, match="agree compares answers: give answer, which finds them in a text"):
        drawn(sampler=pc.Standard(max_new_tokens=4), agree=0.95)
    with pytest.raises(pc.SettingError, match="agree reads answers in texts, and this model has no tokenizer"):
        drawn(pc.TableEngine(random_table(8, 4), EOS), agree=0.95)
