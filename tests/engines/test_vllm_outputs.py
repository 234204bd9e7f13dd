"""What vLLM puts out, without vLLM: the laws that are read from it, and outputs that are harmed."""

import asyncio
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from powercut.engines.vllm.mailbox import laws_of, rows_drawn_first
from powercut.errors import EngineError
from tests.engines.fake_vllm import FakeLLM, close, fake_engine
from tests.engines.test_vllm_requests import ask


def test_rows_are_token_drawn_first_and_count_it_once():
    tokens, widths = np.array([5, 9, 4]), np.array([3, 3, 2])  # the last as joined deltas have it: no second copy
    flat = np.array([5, 4, 5, 9, 7, 8, 4, 7]), np.log([0.2, 0.5, 0.2, 0.1, 0.3, 0.1, 0.5, 0.4])
    ids, logprobs = rows_drawn_first(tokens, widths, *flat)
    assert ids.tolist() == [[-1, 4, 5], [9, 7, 8], [4, 7, -1]]
    assert np.exp(logprobs).round(6).tolist() == [[0.2, 0.5, 0.2], [0.1, 0.3, 0.1], [0.5, 0.4, 0]]
    for wrong in (np.array([3, 3]), np.array([3, 3, 3])):
        with pytest.raises(EngineError, match="do not match"):
            rows_drawn_first(tokens, wrong, *flat)


def test_one_bad_output_does_not_spoil_the_others():
    class Rows:
        start_indices, end_indices = (0,), (3,)

        def __init__(self, token_ids, logprobs):
            self.token_ids, self.logprobs = token_ids, logprobs

    class Output:
        def __init__(self, token_ids, logprobs):
            self.token_ids, self.logprobs = token_ids, logprobs

    def output(*content):
        return SimpleNamespace(outputs=[Output(*content)])

    good = output([4], Rows([4, 4, 5], np.log([0.5, 0.5, 0.25]).tolist()))
    (other, nan, odd), rest = [[4], [4], [4]], [0.25, 0.25]
    outputs = [
        (ask(top_k=2), good),
        (ask(top_k=2), output(other, None)),
        (ask(top_k=2, temperature=0.5), good),
        (ask(top_k=2), output([], None)),
        (ask(top_k=2), output(nan, Rows([4, 4, 5], [math.nan, *rest]))),
        (ask(top_k=2), output(odd, Rows([4, 4, 5.5], [-1.0, -1.0, -2.0]))),
        (ask(top_k=2), SimpleNamespace()),
    ]
    first, bad, second, none, *worse = laws_of(outputs)
    np.testing.assert_allclose(first[1][0], np.log(2 / 3))
    np.testing.assert_allclose(second[1][1], np.log(4 / 5))
    assert len(none[0]) == 0
    for error, match in zip((bad, *worse), ("without", "above 0|NaN", "whole number", "cannot be read"), strict=True):
        assert isinstance(error, EngineError)
        assert re.search(match, str(error))


@pytest.mark.parametrize("top_k", [4])
@pytest.mark.parametrize("harm", ["nan", "lost field", "positive", "repeated", "short", "no number"])
def test_one_bad_output_ends_its_own_request(monkeypatch, harm, top_k):
    llm = FakeLLM()
    engine = fake_engine(monkeypatch, llm)
    generate = llm.generate

    async def harmed(prompt, params, name, **options):
        count = 0
        async for output in generate(prompt, params, name, **options):
            count += 1
            if params.seed == 1 and count == 2:
                rows = output.outputs[0].logprobs
                if harm == "lost field":
                    del rows.end_indices
                elif harm == "repeated":
                    rows.token_ids[-1] = rows.token_ids[-2]
                elif harm == "short":
                    rows.token_ids, rows.logprobs, rows.end_indices = rows.token_ids[:3], rows.logprobs[:3], [3]
                else:
                    rows.logprobs[-1] = {"nan": math.nan, "positive": 0.5, "no number": "x"}[harm]
            yield output

    llm.generate = harmed

    async def four():
        work = [engine.extend(ask(seed, n=30, stop=())) for seed in range(4)]
        return await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), 60)

    seeds = [seed for seed, outcome in enumerate(asyncio.run(four())) if isinstance(outcome, EngineError)]
    close(engine)
    assert seeds == [1]
