"""``powercut serve`` as a process, before a small table model."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

import powercut
from powercut.cli import main
from powercut.server.serving import listen
from tests.cli.fake import FakeEngine
from tests.server.serving import PATIENCE, eventually, web

WORDS = [sys.executable, "-m", "tests.cli.fake", "serve", "--max-new-tokens", "12", "--blocks", "3"]


@pytest.fixture
def start():
    """Starts a server; gives it and where it listens."""
    running = []

    def begin(*words, **environment):
        process = subprocess.Popen(
            [*WORDS, "--port", "0", *words], stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        running.append(process)
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"serving (\S+) at (http://\S+)/v1", line):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                return process, found[2], said
        raise AssertionError(said)

    yield begin
    for process in running:
        process.kill()
        process.wait()
        process.stderr.close()


def test_it_serves_by_the_settings_of_the_command_line(start):
    _, root, _ = start("--sampler", "uniform-cut", "--alpha", "2", "--name", "mine")
    answer = web.post(f"{root}/v1/completions", json={"prompt": "abc"}).json()
    assert (answer["model"], answer["powercut"]["sampler"]) == ("mine", "uniform-cut")
    assert answer["powercut"]["settings"]["alpha"] == 2
    assert web.get(f"{root}/health").status_code == 200


def test_keys_from_a_file_and_from_the_environment(start, tmp_path):
    (tmp_path / "keys").write_text("\ufeffone\n\ntwo\n", encoding="utf-8")  # as some editors write it
    for words, environment, keys in (
        (("--api-key-file", str(tmp_path / "keys")), {}, ("one", "two")),
        ((), {"POWERCUT_SERVER_KEY": "three"}, ("three",)),
    ):
        _, root, _ = start(*words, **environment)
        assert web.get(f"{root}/v1/models").status_code == 401
        for key in keys:
            assert web.get(f"{root}/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_what_is_sent_does_not_wait_for_more():
    """Else answers take 40 ms longer, as their head and body are sent one after the other."""

    async def option(accepted):
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, accepted)
        try:
            return transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        finally:
            transport.abort()
            await asyncio.sleep(0)  # it is closed then

    with listen("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()):
            assert asyncio.run(option(listener.accept()[0]))


def test_sigterm_drains(start):
    """What is being answered is answered; the process ends well."""
    process, root, _ = start()
    body = {"prompt": "abc", "steps": 3000, "stream": True, "seed": 1}
    with web.stream("POST", f"{root}/v1/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        process.send_signal(signal.SIGTERM)
        assert list(lines)[-2] == "data: [DONE]"
    assert process.wait(60) == 0


def test_what_does_not_end_in_time_is_told_so(start):
    """Two who ask the same too."""
    process, root, _ = start("--drain-s", "0.2")
    body = {"prompt": "hab", "stream": True}
    with (
        web.stream("POST", f"{root}/v1/completions", json=body) as one,
        web.stream("POST", f"{root}/v1/completions", json=body) as other,
    ):
        each_lines = [one.iter_lines(), other.iter_lines()]
        for lines in each_lines:
            next(lines)
        process.send_signal(signal.SIGTERM)
        for lines in each_lines:
            events = [line for line in lines if line]
            error = json.loads(events[-2].removeprefix("data: "))["error"]
            assert error["message"] == "the server is about to end"
    assert process.wait(60) == 0


def test_an_empty_key_lets_nobody_in_by_mistake():
    environment = {**os.environ, "POWERCUT_SERVER_KEY": ""}
    done = subprocess.run(WORDS, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment)
    assert done.returncode == 2
    assert done.stderr == "error: POWERCUT_SERVER_KEY is empty: give a key, or unset it, and all may ask\n"


def test_a_port_that_another_took_while_the_model_was_loaded(monkeypatch, capsys):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]

        def load(*_, **__):
            taken.listen()
            return FakeEngine()

        monkeypatch.setattr(powercut, "load", load)
        assert main(["serve", "--port", str(port), "--max-new-tokens", "12", "--blocks", "3"]) == 2
    assert capsys.readouterr().err == f"error: --port {port} cannot be listened on: Address already in use\n"


def test_a_body_that_does_not_come_does_not_keep_the_server(start):
    process, root, _ = start("--drain-s", "0")
    with socket.create_connection(("127.0.0.1", int(root.rsplit(":", 1)[1]))) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        eventually(lambda: web.get(f"{root}/health").status_code == 200)
        process.send_signal(signal.SIGTERM)
        assert connection.recv(12) == b"HTTP/1.1 503"
    assert process.wait(60) == 0


def test_killed_clients_free_their_chains(start):
    _, root, _ = start()
    code = f"""
import httpx
with httpx.stream('POST', '{root}/v1/completions', json=dict(prompt='hab', stream=True), timeout=None) as answer:
    answer.read()
"""
    client = subprocess.Popen([sys.executable, "-c", code])

    def running():
        return int(re.search(r"^powercut_chains_running (\d+)", web.get(f"{root}/metrics").text, re.MULTILINE)[1])

    eventually(lambda: running() == 1)
    client.kill()
    client.wait()
    eventually(lambda: running() == 0)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--port", "70000"], "--port must be"),
        (["--alpha", "0"], "alpha must be"),
        (["--sampler", "x"], "there is no sampler"),
        (["--api-key-file", "/nowhere"], "/nowhere cannot be used"),
        (["--api-key-file", os.devnull], "has no keys"),
        (["--host", "256.0.0.1"], "cannot be listened on"),
        (["--drain-s", "-1"], "--drain-s must be"),
        (["--api-key-file", sys.executable], "is no text in UTF-8"),
        (["--cors-origin", "https://page.example/"], "with nothing behind the host"),
    ],
)
def test_what_cannot_be_is_one_line(words, error):
    done = subprocess.run([*WORDS, *words], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert error in line
