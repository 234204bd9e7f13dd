"""The server before a list of two real ``vllm serve``: one is killed, a new one takes its address, and clients wait.

A list has the addresses that it was loaded with: a server that is added is one that starts at one of them.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx

import powercut as pc
from powercut.models.converting import bundled_folder
from powercut.run import run
from tests.server.serving import eventually, serving
from tests.vllm.server import OPTIONS, READY_WITHIN, VllmServer

CLIENTS = 6
SETTINGS = {"max_new_tokens": 16, "blocks": 2, "steps": 2}
OF_SMOLLM2 = f"{OPTIONS} --max-logprobs=20 --max-model-len=256"


def tokens_drawn_by(server):
    """As the server itself counts them."""
    page = httpx.get(f"http://127.0.0.1:{server.port}/metrics", timeout=READY_WITHIN).text
    return sum(map(float, re.findall(r"^vllm:generation_tokens_total\S* (\S+)", page, re.MULTILINE)))


def test_clients_outlive_one_of_two_servers_and_are_served_by_the_next_at_its_address():
    with VllmServer(bundled_folder(), OF_SMOLLM2) as one, VllmServer(bundled_folder(), OF_SMOLLM2) as other:
        engine = pc.load(f"{one.url},{other.url}", top_k=8, retry_for=READY_WITHIN, backoff=0.1)
        with serving(engine, extra=SETTINGS) as served, ThreadPoolExecutor(CLIENTS) as pool:
            enough = Event()

            def ask_on(client):
                """One answer after the other, until there is enough of them."""
                answers = []
                while not enough.is_set():
                    messages = [{"role": "user", "content": f"What is {client} + {len(answers)}?"}]
                    body = {"messages": messages, "stream": client % 2 == 0}
                    answers.append(httpx.post(f"{served.url}/chat/completions", json=body, timeout=READY_WITHIN))
                return answers

            clients = [pool.submit(ask_on, client) for client in range(CLIENTS)]
            try:
                begun = [tokens_drawn_by(server) for server in (one, other)]
                eventually(lambda: tokens_drawn_by(one) > begun[0] and tokens_drawn_by(other) > begun[1], READY_WITHIN)
                one.kill()
                begun = tokens_drawn_by(other)
                one.start()
                assert tokens_drawn_by(other) > begun  # clients were served in the meantime
                begun = tokens_drawn_by(one)
                eventually(lambda: tokens_drawn_by(one) > begun, READY_WITHIN)
            finally:
                enough.set()
            answers = [answer for client in clients for answer in client.result()]
        run(engine.aclose())
    assert {answer.status_code for answer in answers} == {200}
    assert not any('"error"' in answer.text for answer in answers)
    assert all(answer.text.endswith(("data: [DONE]\n\n", "}")) for answer in answers)
