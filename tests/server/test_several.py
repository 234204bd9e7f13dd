"""A list of servers behind the server."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import powercut as pc
from powercut.run import run
from tests.engines.fake_server import FakeServer
from tests.server.serving import eventually, serving, web
from tests.tiny import tiny_tokenizer


def letters(context):
    law = np.zeros(260)
    law[70:76] = 1 / 6
    return law


def test_clients_outlive_one_of_two_servers_and_its_return(tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path)
    with (
        FakeServer(letters, tokenizer=tiny_tokenizer()) as first,
        FakeServer(letters, tokenizer=tiny_tokenizer()) as other,
    ):
        engine = pc.load(f"{first.url},{other.url}", top_k=6, backoff=0.01, tokenizer=str(tmp_path))
        with serving(engine, extra={"top_k": 6}) as served, ThreadPoolExecutor(12) as pool:

            def ask(seed):
                body = {"prompt": "ab", "seed": seed, "steps": 20}
                return web.post(f"{served.url}/completions", json=body)

            asked = [pool.submit(ask, seed) for seed in range(12)]
            before = len(first.seen)
            eventually(lambda: len(first.seen) > before)
            first.stop()
            answers = [each.result() for each in asked]
            first.start()
            answers += [ask(seed) for seed in range(12, 14)]
        run(engine.aclose())
    assert {answer.status_code for answer in answers} == {200}
    assert all(len(answer.json()["choices"][0]["text"]) == 12 for answer in answers)
    assert other.seen
