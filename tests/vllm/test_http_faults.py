"""A real ``vllm serve`` that is killed and comes back, that loses its engine, or that cannot give what is needed.

Starting it takes half a minute, so that the tests share one.
"""

import asyncio
import logging
import threading
import time

import numpy as np
import psutil
import pytest

import powercut as pc
from powercut.study.exact import enumerate_completions
from tests.checks import chi_square_p, count
from tests.vllm.models import save_tiny
from tests.vllm.server import READY_WITHIN, TINY, VllmServer, spoken_to_by
from tests.vllm.test_contract import ALARM, probs

KINDS = ("generate", "completions")
LENGTH = 1500  # so long that what the server can send ahead of us is never all of it


GOOD = f"{TINY} --served-model-name=one"
POOR = f"{TINY} --served-model-name=other --max-logprobs=3 --logprobs-mode=processed_logprobs"


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with VllmServer(save_tiny(tmp_path_factory.mktemp("tiny"), context=2 * LENGTH), GOOD) as server:
        yield server


@pytest.fixture
def server(process):
    process.serve(GOOD)
    return process


@pytest.fixture
def poor_server(process):
    process.serve(POOR)
    return process


def load(server, kind="generate", **options):
    with spoken_to_by(kind):
        return pc.load(server.url, **({"top_k": 6, "retry_for": READY_WITHIN, "backoff": 0.1} | options))


def long(seed=0):
    """A request that draws LENGTH tokens: at this temperature the model hardly ever stops."""
    return pc.Request(np.array([1, 2, 3]), max_new_tokens=LENGTH, top_k=6, temperature=0.05, seed=seed)


def killed_after(server, engine, tokens):
    """A thread that kills the server once the engine has decoded so many tokens more, and starts it again."""
    want = engine.usage.decoded + tokens

    def work():
        while engine.usage.decoded < want:
            time.sleep(0.002)
        server.kill()
        server.start()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "powercut"]


def test_a_killed_server_costs_no_token_that_came(server, caplog):
    """Long requests go on from where they were: each token is drawn once, and is the one that was shown."""
    caplog.set_level(logging.INFO, "powercut")
    engines = {kind: load(server, kind) for kind in KINDS}
    shown = {(kind, seed): [] for kind in KINDS for seed in range(8)}

    async def draw(kind, seed):
        return await engines[kind].extend(long(seed), lambda piece: shown[kind, seed].append(piece) or True)

    async def all_at_once():
        return await asyncio.gather(*(draw(kind, seed) for kind, seed in shown))

    killer = killed_after(server, engines["generate"], 400)
    traces = asyncio.run(all_at_once())
    killer.join()
    assert [len(trace) for trace in traces] == [LENGTH] * len(shown)
    for pieces, trace in zip(shown.values(), traces, strict=True):
        assert pc.Trace.join(pieces).tokens.tolist() == trace.tokens.tolist()
    assert sum(engine.usage.decoded for engine in engines.values()) == sum(map(len, traces))
    assert sum("chains wait" in line for line in lines(caplog)) == len(engines)
    assert sum("answers again" in line for line in lines(caplog)) == len(engines)


def test_chains_of_a_killed_server_have_the_power_distribution(server, caplog):
    """False-alarm probability: ALARM. All completions arrive, and what they cost is what the engine drew."""
    caplog.set_level(logging.INFO, "powercut")
    engine = load(server, "completions")
    sampler = pc.EntropyCut(
        alpha=2, steps=8, blocks=1, uniform_mix=0.3, refine_finished=True, max_new_tokens=3, top_k=6
    )
    space = enumerate_completions(probs, (1, 2), 3, sampler.proposal_temperature, 6)
    killer = killed_after(server, engine, 3000)
    completions = pc.sample(engine, sampler, [[1, 2]], n=800, seed=6)
    killer.join()
    assert len(completions) == 800
    assert sum(c.stats.tokens_decoded for c in completions) == engine.usage.decoded
    assert "answers again" in lines(caplog)[-1]
    counts = count(space, completions)
    assert chi_square_p(counts, space.power(2)) > ALARM
    assert chi_square_p(counts, space.power(1)) < ALARM  # control: not the model itself


def test_an_engine_that_dies_under_its_server_and_a_server_that_comes_back_as_another(server):
    """The first as when the system ends a process that took too much memory: the message says what to lower."""
    server.kill()  # one that has just been started: what earlier tests asked of it must not matter here
    server.start()
    hasty, patient = load(server, retry_for=0.0), load(server)

    def end_the_engine(piece):
        for child in psutil.Process(server.process.pid).children(recursive=True):
            if child.name().startswith("VLLM"):
                child.kill()
        return True

    async def both():
        waiting = asyncio.create_task(patient.extend(long(1)))
        (gave_up,) = await asyncio.gather(hasty.extend(long(), end_the_engine), return_exceptions=True)
        await asyncio.to_thread(server.serve, POOR)
        return gave_up, *await asyncio.gather(waiting, return_exceptions=True)

    gave_up, another = asyncio.run(both())
    assert isinstance(gave_up, pc.EngineError)
    assert "memory ran short, lower concurrency, or its --max-num-seqs" in str(gave_up)
    assert isinstance(another, pc.EngineError)
    assert "came back and serves other, not one" in str(another)
    assert not any("\n" in str(error) for error in (gave_up, another))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"model": "one"}, "model: .* serves other, not one"),
        ({"top_k": 4}, "top_k=4: .* refuses .*--max-logprobs 4"),
        ({"top_k": 3}, "changes its log-probabilities with the temperature.*--logprobs-mode raw_logprobs"),
    ],
)
def test_what_a_server_cannot_give_is_one_line_at_the_start(poor_server, kind, options, match):
    with pytest.raises((pc.EngineError, pc.SettingError), match=match) as error:
        load(poor_server, kind, **options)
    assert "\n" not in str(error.value)
