"""A small server that speaks as vLLM, llama.cpp and SGLang do, with a table for a model, and with faults to order.

Same seed, same tokens: it draws as TableEngine does, so that a client can be compared with one.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from powercut.engines.laws import draw, next_token_law
from tests.engines.fake_dialects import OWNERS, PATHS, read, write

VISIBLE = 1
"""The token of an exclamation mark."""


class DropError(Exception):
    """Close the connection in the middle of the answer."""


@dataclass
class FakeServer:
    """``probs(context)`` is the model, ``eos`` its stop token; used as ``with FakeServer(...) as server``.

    ``drops``: after how many tokens each coming request's stream is dropped. ``failures``: how many coming requests
    get HTTP 500, for the reason ``failure``. ``hold_after``: after how many tokens every stream stands still until the
    server is killed. ``hidden`` are tokens that end inside a character, which llama-server does not show. ``instead``
    may give, for a path and a body, the bytes to send in place of an answer, after which the connection is closed, and
    ``handle_instead`` may write to the handler's ``wfile`` itself;
    ``spoil`` changes the text of each event. ``calls`` are the paths of all requests, ``seen`` the payloads of those
    for tokens; ``aborted`` is set once a client went away in the middle of an answer; ``running`` counts the answers
    under way, ``most_running`` the most of them.
    """

    probs: Callable[[tuple[int, ...]], Any]
    eos: int = 0
    kind: str = "completions"
    model: str = "fake"
    max_logprobs: int = 1000
    processed: bool = False
    log_probs: bool = True
    hide_stop: bool = False
    tokenizer: Any = None
    key: str | None = None
    chunk: int = 1
    cumulative: bool = True
    cached: int | None = None
    places: int | None = None
    owner: str | None = None
    hidden: frozenset[int] = frozenset()
    close_after: bool = False
    instead: Callable[[str, dict[str, Any]], bytes | None] = lambda path, body: None
    spoil: Callable[[str], str | bytes] = lambda text: text
    handle_instead: Callable[[Any, dict[str, Any]], None] | None = None
    max_model_len: int | None = None
    drops: list[int] = field(default_factory=list)
    failures: int = 0
    failure: str = "out of order"
    hold_after: int | None = None
    calls: list[str] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        self.aborted, self.idle = threading.Event(), threading.Event()
        self.lock = threading.Lock()

    def __enter__(self) -> FakeServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        self.killed = threading.Event()
        handler = type("Handler", (_Handler,), {"fake": self})
        self.connections: set[socket.socket] = set()
        self.http = _Server(("127.0.0.1", self.port), handler)
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Kill it: nothing listens any more, and every connection is cut."""
        self.killed.set()
        self.http.shutdown()
        self.http.socket.close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.http.server_close()  # waits for the threads
        self.thread.join()

    def answer(
        self,
        context: tuple[int, ...],
        n: int,
        temperature: float,
        top_k: int,
        seed: int,
        stops: set[int],
        forced: int | None = None,
    ):
        """Draw up to ``n`` tokens, the first ``forced`` if given: (token, [(id, log-probability), ...], end) each."""
        noise = np.random.default_rng(seed)
        for i in range(n):
            probs = np.asarray(self.probs(context), dtype=float)
            with np.errstate(divide="ignore"):
                logprobs = np.log(probs)
            top = np.sort(np.argsort(-probs, kind="stable")[:top_k])
            law = next_token_law(logprobs[top][None], np.array([temperature]))
            token = int(top[draw(law.logq, noise.random(1))[0]]) if forced is None else forced
            given = law.logq[0] if self.processed else logprobs[top]
            end = "stop" if token in stops else "length" if i == n - 1 else None
            yield token, [(int(t), max(float(v), -9999.0)) for t, v in zip(top, given, strict=True)], end
            if end:
                return
            context += (token,)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close waits for them
    block_on_close = True
    allow_reuse_address = True
    request_queue_size = 256


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.fake.connections.add(self.connection)

    def finish(self):
        self.fake.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self):
        with contextlib.suppress(OSError):  # the client went away, or the server was killed
            super().handle()

    def log_message(self, *_):
        pass

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message):
        self.reply(status, {"error": {"message": message, "type": "Error", "code": status}})

    def authorised(self):
        self.fake.headers.append(dict(self.headers))
        self.fake.calls.append(self.path)
        if self.fake.key is None or self.headers.get("Authorization") == f"Bearer {self.fake.key}":
            return True
        self.refuse(401, f"wrong key: {self.headers.get('Authorization')}")
        return False

    def answered(self, body):
        """Whether the fault ordered for this request has been sent."""
        if self.fake.handle_instead is not None:
            self.close_connection = True
            self.fake.handle_instead(self, body)
            return True
        if (data := self.fake.instead(self.path, body)) is None:
            return False
        self.wfile.write(data)
        self.close_connection = True
        return True

    def do_GET(self):
        if not self.authorised() or self.answered({}):
            return
        path, kind = self.path.partition("?")[0], self.fake.kind
        if kind == "llama" and path == "/props" and self.fake.places is not None:
            about = {"total_slots": self.fake.places, "default_generation_settings": {"n_ctx": self.fake.max_model_len}}
            self.reply(200, about)
            return
        if kind == "sglang" and path == "/get_server_info" and self.fake.places is not None:
            self.reply(200, {"max_running_requests": self.fake.places})
            return
        if path != "/v1/models":
            self.reply(404, {"detail": "Not Found"})
            return
        owner = self.fake.owner or OWNERS[kind]
        card = {"id": self.fake.model, "object": "model", "owned_by": owner, "root": "/nowhere/fake"}
        self.reply(200, {"object": "list", "data": [{**card, "max_model_len": self.fake.max_model_len}]})

    def do_POST(self):
        data, fake = self.rfile.read(length := int(self.headers["Content-Length"])), self.fake
        if len(data) < length:  # the client went away
            self.close_connection = True
            return
        body = json.loads(data)
        if not self.authorised() or self.answered(body):
            return
        if fake.kind == "llama" and self.path == "/tokenize" and body["content"] == "!":
            self.reply(200, {"tokens": [VISIBLE]})
            return
        if fake.tokenizer is not None and self.path in ("/tokenize", "/detokenize", "/apply-template"):
            try:
                self.reply(200, self.text(body))
            except KeyError as error:
                self.refuse(400, f"field required: {error}")
            return
        if self.path != PATHS[fake.kind]:
            self.reply(404, {"detail": "Not Found"})
            return
        with fake.lock:
            fails = fake.failures > 0
            fake.failures -= fails
        if fails:
            self.refuse(500, fake.failure)
            return
        if body.get("model", fake.model) != fake.model:
            self.refuse(404, f"The model `{body['model']}` does not exist.")
            return
        context, n, temperature, top_k, seed, stops = read(fake.kind, body)
        if top_k > fake.max_logprobs:
            self.refuse(
                400, f"Requested sample logprobs of {top_k}, which is greater than max allowed: {fake.max_logprobs}"
            )
            return
        with fake.lock:
            fake.seen.append(body)
            fake.running += 1
            fake.most_running = max(fake.running, fake.most_running)
            drop = fake.drops.pop(0) if fake.drops and n > 1 else None
        killed = fake.killed
        try:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            drawn = []
            forced = body["logit_bias"][0][0] if "logit_bias" in body else None
            for piece in fake.answer(tuple(context), n, temperature, top_k, seed, stops | {fake.eos}, forced):
                if len(drawn) == drop:
                    raise DropError
                if len(drawn) == fake.hold_after:
                    killed.wait()
                    raise DropError
                drawn.append(piece)
                if len(drawn) % fake.chunk == 0 or piece[2]:
                    new = drawn[(len(drawn) - 1) // fake.chunk * fake.chunk :]
                    for event in write(fake, new, drawn, len(context)):
                        self.send(fake.spoil(f"data: {json.dumps(event)}\n\n"))
            if fake.kind != "llama":
                self.send("data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
            self.close_connection = fake.close_after
        except DropError:
            self.close_connection = True
        except OSError:
            fake.aborted.set()
            self.close_connection = True
        finally:
            with fake.lock:
                fake.running -= 1

    def send(self, text):
        data = text if isinstance(text, bytes) else text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def text(self, body):
        tokenizer, llama = self.fake.tokenizer, self.fake.kind == "llama"
        if self.path == "/detokenize":
            return {"content" if llama else "prompt": tokenizer.decode(body["tokens"], skip_special_tokens=False)}
        if "messages" in body:
            turn = {key: body.get(key, False) for key in ("add_generation_prompt", "continue_final_message")}
            turn = {"add_generation_prompt": True} if llama else turn
            variables = body.get("chat_template_kwargs", {})
            rendered = tokenizer.apply_chat_template(body["messages"], tokenize=False, **turn, **variables)
            return {"prompt": rendered} if llama else {"tokens": tokenizer.encode(rendered, add_special_tokens=False)}
        special = body.get("add_special" if llama else "add_special_tokens", True)
        text = body["content" if llama else "prompt"]
        return {"tokens": tokenizer.encode(text, add_special_tokens=special)}
