"""The user's own checks pass on a right engine, and each fails on an engine that is wrong in its way."""

import asyncio
import dataclasses
import re
from contextlib import aclosing

import numpy as np
import pytest

import powercut as pc
from powercut.cli import main
from powercut.engines.transformers import TransformersEngine, choose_cache
from powercut.engines.transformers.one_pass import ByRow, NoSlotsError
from powercut.study.exact import EOS
from powercut.trace import Trace
from powercut.verify import chance, same_law, verify
from tests.checks import random_table
from tests.engines.fake_server import FakeServer
from tests.families import tiny_family

PROMPT = np.array([1, 2, 1, 3, 2, 1])


def checked(engine, **options):
    async def every():
        return {check.name: check async for check in verify(engine, PROMPT, top_k=4, draws=300, **options)}

    return asyncio.run(every())


def failed(engine):
    return [name for name, check in checked(engine).items() if not check.passed]


class Table(pc.TableEngine):
    def __init__(self):
        table = random_table(3, 5)
        super().__init__(lambda c: [0.1, 0.6, 0.2, 0.05, 0.05] if c == tuple(PROMPT) else table(c), EOS)


def changed(trace, **columns):
    whole = {name: getattr(trace, name) for name in ("tokens", "logp", "logq", "entropy")}
    return Trace(**whole | columns, finished=trace.finished)


def test_a_right_engine_passes_all():
    found = checked(Table())
    assert len(found) == 8
    assert all(check.passed for check in found.values()), found


def test_processed_log_probabilities_fail():
    class Processed(Table):
        async def extend(self, request, keep_going=None):
            trace = await super().extend(request, keep_going)
            return changed(trace, entropy=trace.entropy * request.temperature)

    assert "log-probabilities are raw, whatever the temperature" in failed(Processed())


def test_a_row_that_its_company_changes_fails():
    class Crowded(Table):
        async def extend(self, request, keep_going=None):
            self.most = getattr(self, "most", 0) + 1
            await asyncio.sleep(0)
            crowd = self.most
            try:
                trace = await super().extend(request, keep_going)
            finally:
                self.most -= 1
            wrong = crowd > 1 and len(request.context) < 4  # the short rows of a batch
            return changed(trace, entropy=trace.entropy + 1) if wrong else trace

    assert "a request is the same alone and in unequal company" in failed(Crowded())


def test_a_model_that_adds_boolean_masks_fails(monkeypatch):
    """GPT-Neo in slots, given masks as most models take them: its short rows see beyond their own end."""
    monkeypatch.setattr(ByRow, "_hide", lambda _, hidden: ~hidden)

    def untried(self, model, way):  # the trial would see it when the model is loaded
        if way is not ByRow:
            raise NoSlotsError("as it does")

    monkeypatch.setattr(choose_cache._Trial, "try_slots", untried)
    engine = TransformersEngine(tiny_family("gpt_neo", window_size=64), slots=4, context_length=64)

    async def first_failure():
        async with aclosing(verify(engine, PROMPT + 20, top_k=20)) as checks:
            return await anext(check async for check in checks if not check.passed)

    check = asyncio.run(first_failure())
    assert check.name == "a request is the same alone and in unequal company"
    assert float(re.search(r"differ by (\S+) nats", check.detail)[1]) > 0.1


@pytest.mark.parametrize("kind", ["generate", "completions", "llama", "sglang"])
def test_a_server_whose_log_probabilities_are_processed_fails(kind):
    async def first(engine):
        async with aclosing(verify(engine, PROMPT, top_k=4)) as checks:
            return await anext(checks)

    with FakeServer(random_table(3, 5), kind=kind) as server:
        engine = pc.load(server.url, top_k=4)
        assert asyncio.run(first(engine)).passed
        server.processed = True  # one that was so when it was loaded is refused there
        check = asyncio.run(first(engine))
    assert not check.passed
    assert check.name == "log-probabilities are raw, whatever the temperature"


def test_a_cache_that_is_not_what_was_computed_fails():
    class Stale(Table):
        async def extend(self, request, keep_going=None):
            trace = await super().extend(request, keep_going)
            return trace if request.chain is None or len(trace) > 1 else changed(trace, entropy=trace.entropy + 0.5)

    assert failed(Stale()) == ["a context is the same drawn, computed and cached"]


def test_draws_that_have_another_law_fail():
    class Hot(Table):
        """Draws at a temperature of its own, and says what the one asked for would give."""

        async def extend(self, request, keep_going=None):
            if request.temperature == 1 or request.max_new_tokens > 1:
                return await super().extend(request, keep_going)
            hot = pc.Request(request.context, 1, 1.0, request.top_k, (), request.seed)
            trace = await super().extend(hot)
            tokens, law = self._law(tuple(request.context.tolist()), request.temperature, request.top_k)
            at = int(np.flatnonzero(tokens == trace.tokens[0])[0])
            return changed(trace, logq=law.logq[0, [at]])

    assert "first tokens have their law at temperature 0.5" in failed(Hot())


@pytest.mark.parametrize("fault", ["drawn", "not renormalised"])
def test_stops_that_are_not_barred_fail(fault):
    class Early(Table):
        async def extend(self, request, keep_going=None):
            if not request.min_new_tokens:
                return await super().extend(request, keep_going)
            plain = await super().extend(dataclasses.replace(request, min_new_tokens=0), keep_going)
            if fault == "drawn":
                return plain
            barred = await super().extend(request, keep_going)
            _, law = self._law(tuple(request.context.tolist()), request.temperature, request.top_k)
            return changed(barred, logp=barred.logp, logq=barred.logq + law.logq[0, 1])

    assert failed(Early()) == ["a stop that comes too early is barred"]


def test_what_an_engine_raises_is_a_failed_check():
    class Broken(Table):
        async def extend(self, request, keep_going=None):
            raise pc.EngineError("it is away")

    found = checked(Broken())
    assert all(not check.passed and check.detail == "it is away" for check in found.values())


def test_p_values_are_those_of_their_laws():
    rng = np.random.default_rng(0)
    law = np.array([0.5, 0.3])
    p = [chance(rng.multinomial(200, [0.5, 0.3, 0.2]), law, seed) for seed in range(40)]
    assert 0.2 < np.mean(p) < 0.8  # a mean of 40 uniform numbers is outside with a chance below 1e-6
    assert chance(np.array([40, 120, 40]), law, 0) < 1e-4
    assert chance(np.array([10, 10, 1]), np.array([0.5, 0.5]), 0) == 0.0  # what cannot be was drawn
    from collections import Counter

    a, b = Counter({(1,): 80, (2,): 20}), Counter({(1,): 20, (2,): 80})
    assert same_law(a, b, 0) < 1e-4
    assert same_law(a, a, 0) == 1


@pytest.mark.parametrize("right", [True, False])
def test_the_command_prints_a_line_a_check_and_tells_by_its_exit_code(capsys, monkeypatch, right):
    from tests.cli import fake

    class Fake(fake.FakeEngine):
        async def extend(self, request, keep_going=None):
            trace = await super().extend(request, keep_going)
            return trace if right else changed(trace, entropy=trace.entropy * request.temperature)

    monkeypatch.setattr(pc, "load", lambda *_, **__: Fake())
    code = main(["verify", "abab", "--draws", "200"])
    out = capsys.readouterr().out.splitlines()
    assert code == (0 if right else 1)
    assert len(out) == 8
    assert all(line.startswith("ok    " if right else ("ok    ", "FAIL  ")) for line in out)


def test_the_command_asks_for_no_more_log_probabilities_than_it_is_told(capsys, monkeypatch):
    from tests.cli import fake

    asked = []

    class Fake(fake.FakeEngine):
        async def extend(self, request, keep_going=None):
            asked.append(request.top_k)
            return await super().extend(request, keep_going)

    monkeypatch.setattr(pc, "load", lambda *_, **__: Fake())
    assert main(["verify", "abab", "--draws", "100", "--top-k", "4"]) == 0
    assert set(asked) == {4, 3}  # 3 for short completions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-k", "2"], "--top-k must be a whole number of at least 3 (got 2)"),
        (["--draws", "1000000000"], "--draws must be a whole number from 100 to 100000 (got 1000000000)"),
        (["--tolerance", "nan"], "--tolerance must be a number from 0 to 10 (got nan)"),
        (["--tolerance", "inf"], "--tolerance must be a number from 0 to 10 (got inf)"),
        (["--seed", str(2**63)], f"--seed must be a whole number from 0 to {2**63 - 1} (got {2**63})"),
    ],
)
def test_flags_that_make_no_sense_are_one_line(capsys, arguments, message):
    assert main(["verify", "abab", *arguments]) == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")
