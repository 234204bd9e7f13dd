"""Best-of-N: what it spends, what it picks, and the law of what it returns."""

import asyncio
import itertools

import numpy as np
import pytest

import powercut as pc
from powercut.study.exact import EOS, enumerate_completions
from tests.checks import chi_square_p, count, random_table
from tests.letters import Letters

ALARM = 1e-6
PROMPT = (1,)
LONGEST = 6


class Scrambled(pc.TableEngine):
    """Ends requests in an order that has nothing to do with that of their start."""

    def __init__(self, probs, order, eos=EOS):
        super().__init__(probs, eos)
        self.order, self.traces = np.random.default_rng(order), []

    async def extend(self, request, keep_going=None):
        index = len(self.traces)
        self.traces.append(None)
        for _ in range(self.order.integers(40)):
            await asyncio.sleep(0)
        self.traces[index] = await super().extend(request, keep_going)
        return self.traces[index]


def draw_one(engine, sampler, seed=0):
    [completion] = pc.sample(engine, sampler, [PROMPT], seed=seed)
    return completion


# What it spends


@pytest.mark.parametrize("budget", [1, 2, 5, 6, 7, 23, 100])
def test_a_budget_is_reached_and_passed_by_less_than_a_completion(budget):
    probs = random_table(14, 3)
    seen = set()
    for seed in range(12):
        completions = []
        for order in range(3):
            engine = Scrambled(probs, order)
            c = draw_one(engine, pc.BestOfN(budget=budget, max_new_tokens=LONGEST), seed)
            lengths = [len(trace) for trace in engine.traces]
            assert c.stats.tokens_decoded == engine.usage.decoded == sum(lengths) >= budget
            # In the order of their seeds: one by one, the last would have been the first to reach the budget.
            assert sum(lengths[:-1]) < budget
            assert c.stats.candidates == len(lengths)
            completions.append((c.tokens.tolist(), c.stats.tokens_decoded, c.stats.candidates))
        assert completions[0] == completions[1] == completions[2]  # whatever ended first
        seen.add(completions[0][2])
    assert len(seen) > 1 or budget == 1


def test_what_a_budget_is_certain_to_buy_decodes_at_once():
    running = []

    class Watched(pc.TableEngine):
        async def extend(self, request, keep_going=None):
            running.append(self.concurrency - self.idle)
            return await super().extend(request, keep_going)

    sampler = pc.BestOfN(budget=100, max_new_tokens=10)
    draw_one(Watched(lambda _: [0.0, 1.0], EOS), sampler)
    assert running == list(range(10))
    assert sampler.width == 10


def test_n_completions_unless_said_otherwise_are_eight():
    engine = Scrambled(random_table(3, 3), 0)
    assert draw_one(engine, pc.BestOfN(max_new_tokens=4)).stats.candidates == len(engine.traces) == 8
    assert draw_one(engine, pc.BestOfN(n=3, max_new_tokens=4)).stats.candidates == 3
    assert (pc.BestOfN().width, pc.BestOfN(n=3).width) == (8, 3)


@pytest.mark.parametrize(("given", "most"), [({}, 256), ({"n": 3}, 3), ({"n": 300}, 300)])
def test_a_budget_buys_no_more_than_so_many(given, most):
    sampler = pc.BestOfN(budget=10**6, max_new_tokens=1, **given)
    c = draw_one(pc.TableEngine(lambda _: [0.5, 0.5], EOS), sampler)
    assert c.stats.candidates == c.stats.tokens_decoded == sampler.width == most


def test_one_of_one_is_standard_sampling():
    probs = random_table(3, 3)
    best = draw_one(pc.TableEngine(probs, EOS), pc.BestOfN(n=1, max_new_tokens=9), seed=4)
    assert best.trace == draw_one(Scrambled(probs, 1), pc.BestOfN(budget=1, max_new_tokens=9), seed=4).trace


# Matching another sampler's cost


def two_prompts(sampler, n=2, **options):
    engine = pc.TableEngine(random_table(8, 3), EOS)
    return pc.sample(engine, sampler, [[1], [2]], n=n, **options)


def test_match_spends_on_each_completion_what_the_other_took():
    cuts = two_prompts(pc.EntropyCut(steps=4, blocks=2, max_new_tokens=6))
    spent = {(c.prompt_index, c.sample_index): c.stats.tokens_decoded for c in cuts}
    assert len(set(spent.values())) > 1
    best = two_prompts(pc.BestOfN(max_new_tokens=6), match=cuts)
    for c in best:
        budget = spent[c.prompt_index, c.sample_index]
        assert budget <= c.stats.tokens_decoded < budget + 6
    for match in (spent, iter(cuts)):
        again = two_prompts(pc.BestOfN(max_new_tokens=6), match=match)
        assert [c.trace for c in again] == [c.trace for c in best]
    # each is what its budget gives alone
    alone = two_prompts(pc.BestOfN(budget=spent[1, 0], max_new_tokens=6))
    assert alone[2].trace == best[2].trace


@pytest.mark.parametrize(
    ("sampler", "match", "message"),
    [
        (
            pc.BestOfN(),
            {(0, 0): 9, (1, 0): 9, (0, 1): 9},
            "match has no completion for prompt 1, sample 1: draw",
        ),
        (
            pc.BestOfN(),
            {(0, 0): 9, (1, 0): 9, (0, 1): 9, (1, 1): 0},
            "match: the tokens decoded must be a whole",
        ),
        (pc.BestOfN(budget=3), {}, "budget and match say the same thing twice"),
        (pc.Standard(), {}, "match says what best-of-n may spend; Standard has no budget"),
        (pc.BestOfN(), [(0, 0, 9)], "match must be completions of another sampler (got (0, 0, 9))"),
        (pc.BestOfN(), 7, "match must be completions of another sampler (got 7)"),
    ],
)
def test_what_cannot_be_matched_is_refused_before_anything_is_sampled(sampler, match, message):
    engine = pc.TableEngine(random_table(8, 3), EOS)
    with pytest.raises(pc.SettingError) as error:
        pc.sample(engine, sampler, [[1], [2]], n=2, match=match)
    assert str(error.value).startswith(message)
    assert engine.usage.decoded == 0


def test_two_completions_of_one_place_are_refused():
    cuts = two_prompts(pc.Standard(max_new_tokens=3))
    with pytest.raises(pc.SettingError, match="match has two completions for prompt 0, sample 0: give one run's"):
        two_prompts(pc.BestOfN(), match=[*cuts, *cuts])


# What it picks


def test_selection_by_mean_and_by_sum():
    probs = random_table(21, 4)
    for seed in range(20):
        engine = Scrambled(probs, seed)
        best = {}
        for select in ("mean-logp", "logp"):
            best[select] = draw_one(engine, pc.BestOfN(n=5, select=select, max_new_tokens=5), seed)
        first, second = engine.traces[:5], engine.traces[5:]
        assert first == second
        means = [trace.logp.mean() for trace in first]
        sums = [trace.logp.sum() for trace in first]
        assert best["mean-logp"].trace == first[int(np.argmax(means))]
        assert best["logp"].trace == first[int(np.argmax(sums))]


class Given(pc.TableEngine):
    """Draws, one after the other, the texts it was given; the n-th token of each with the probability it was given."""

    def __init__(self, *texts):
        super().__init__(lambda _: [1.0], EOS)
        self.text, self._texts = Letters(".123456789"), itertools.cycle(texts)

    async def extend(self, request, keep_going=None):
        text, logp = next(self._texts)
        tokens = [".123456789".index(letter) for letter in text]
        column = np.full(len(tokens), logp)
        self.usage.decoded += len(tokens)
        return pc.Trace(tokens, column, column, -column, finished=tokens[-1] == EOS)


@pytest.mark.parametrize(
    ("answer", "texts", "picked"),
    [
        (r"\d\.", [("14.", -1), ("24.", -2), ("5.", -0.1)], "14."),  # two say 4, of which the likelier per token
        (r"\d\.", [("24.", -2), ("14.", -1), ("5.", -0.1)], "14."),
        (r"\d(\d)", [("145", -1), ("45", -2), ("1525", -3), ("9.", -0.1)], "45"),  # last match 45, 45, 25; its group 5
        (r"\d(\d)", [("14", -3), ("24", -3), ("35", -1), ("45", -2), ("5.", -0.1)], "35"),  # a tie: the likelier
        (r"\d(\d)", [("14", -3), ("24", -3), ("34", -3)], "14"),  # equals all the way: the first
        (r"9", [("1.", -2), ("2.", -1)], "2."),  # no answer anywhere: the likeliest
        (r"9", [("1.", -1), ("2.", -1), ("9.", -5)], "9."),  # no answer never wins against one
        (r"1(2)?", [("13", -1), ("13", -1), ("12", -9)], "12"),  # a group that took no part is no answer
        (lambda text: len(text), [("123.", -1), ("1.", -0.5), ("4567", -2)], "123."),
        (lambda text: None if "1" in text else text, [("1.", -0.1), ("1.", -0.1), ("2.", -7)], "2."),
    ],
)
def test_the_majority_answer(answer, texts, picked):
    c = draw_one(Given(*texts), pc.BestOfN(n=len(texts), select="majority", answer=answer))
    assert c.text == picked


def test_answers_are_read_in_the_text_that_is_shown():
    """Not in what the stop string holds."""
    sampler = pc.BestOfN(n=3, select="majority", answer=r"\d$", stop="99")
    read = []

    def answer(text):
        read.append(text)
        return text[-1]

    engine = Given(("1499", -1), ("2499", -3), ("599", -0.1))
    engine.check = lambda request: None
    assert draw_one(engine, sampler).text == "14"
    assert draw_one(engine, pc.BestOfN(n=3, select="majority", answer=answer, stop="99")).text == "14"
    assert read == ["14", "24", "5"]


def test_the_majority_needs_text():
    engine = pc.TableEngine(random_table(8, 3), EOS)
    with pytest.raises(
        pc.SettingError, match="select=majority reads answers in texts, and this model has no tokenizer"
    ):
        draw_one(engine, pc.BestOfN(select="majority", answer="x"))
    assert engine.usage.decoded == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "n must be a whole number of at least 1 (got 0)"),
        ({"budget": 0.5}, "budget must be a whole number from 1 to 1000000000 (got 0.5)"),
        ({"temperature": None}, "temperature must be a positive number (got None)"),
        ({"temperature": 0}, "temperature must be a positive number"),
        ({"select": "best"}, "select must be mean-logp or logp or majority (got 'best')"),
        ({"select": "majority"}, "select majority counts answers: give answer, which finds them"),
        ({"select": "majority", "answer": "("}, "answer must be a regular expression: missing )"),
        ({"select": "majority", "answer": 3}, "answer must be a regular expression or a function (got 3)"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(settings, message):
    with pytest.raises(pc.SettingError) as error:
        pc.BestOfN(**settings)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


# The law


@pytest.mark.parametrize(("temperature", "select"), [(1.0, "mean-logp"), (0.5, "mean-logp"), (1.0, "logp")])
def test_the_best_of_two_has_its_law(temperature, select):
    """Every pair of completions enumerated. False-alarm probability: ALARM."""
    probs = random_table(22, 3)
    sampler = pc.BestOfN(n=2, temperature=temperature, select=select, max_new_tokens=3)
    space = enumerate_completions(probs, PROMPT, 3, temperature)
    q = np.exp([trace.logq.sum() for trace in space.traces])
    law = {}
    for select_ in ("mean-logp", "logp"):
        score = np.array([t.logp.mean() if select_ == "mean-logp" else t.logp.sum() for t in space.traces])
        below = score[None] < score[:, None]
        assert len(set(score)) == len(score)  # no ties but with itself
        law[select_] = q**2 + 2 * q * (below * q).sum(axis=1)
    counts = count(space, pc.sample(pc.TableEngine(probs, EOS), sampler, [PROMPT], n=2000, seed=1))
    assert chi_square_p(counts, law.pop(select)) > ALARM
    assert chi_square_p(counts, law.popitem()[1]) < ALARM  # controls: selected by the other score,
    assert chi_square_p(counts, q) < ALARM  # and not selected
