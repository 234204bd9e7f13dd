"""The server before two real ``vllm serve``: one is killed, and another comes in its place, while clients wait."""

import re
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx

import powercut as pc
from powercut.models.converting import bundled_folder
from powercut.run import run
from tests.server.serving import PATIENCE, eventually, serving
from tests.vllm.server import OPTIONS, READY_WITHIN, VllmServer

SETTINGS = {"max_new_tokens": 48, "blocks": 2, "steps": 3}
OF_SMOLLM2 = f"{OPTIONS} --max-logprobs=50 --max-model-len=512"


def drawn_by(server):
    """Tokens, by what the server says of itself."""
    page = httpx.get(f"http://127.0.0.1:{server.port}/metrics", timeout=PATIENCE).text
    return sum(map(float, re.findall(r"^vllm:generation_tokens_total\S* (\S+)", page, re.MULTILINE)))


def test_clients_outlive_one_of_two_servers_and_are_served_by_its_successor():
    with VllmServer(bundled_folder(), OF_SMOLLM2) as one, VllmServer(bundled_folder(), OF_SMOLLM2) as other:
        engine = pc.load(f"{one.url},{other.url}", retry_for=READY_WITHIN, backoff=0.1)
        with serving(engine, extra=SETTINGS) as served, ThreadPoolExecutor(12) as pool:
            enough = Event()

            def ask_on(client):
                """One answer after the other, until there is enough of them."""
                answers = []
                while not enough.is_set():
                    messages = [{"role": "user", "content": f"What is {client} + {len(answers)}?"}]
                    body = {"messages": messages, "stream": client % 2 == 0, "stream_progress": True}
                    answers.append(httpx.post(f"{served.url}/chat/completions", json=body, timeout=READY_WITHIN))
                return answers

            clients = [pool.submit(ask_on, client) for client in range(12)]
            try:
                eventually(lambda: min(drawn_by(one), drawn_by(other)) > 100)
                one.kill()
                before = drawn_by(other)
                one.start()
                assert drawn_by(other) > before
                eventually(lambda: drawn_by(one) > 100)
            finally:
                enough.set()
            answers = [answer for client in clients for answer in client.result()]
        run(engine.aclose())
    assert {answer.status_code for answer in answers} == {200}
    assert not any('"error"' in answer.text for answer in answers)
    assert all(answer.text.endswith(("[DONE]\n\n", "}")) for answer in answers)
