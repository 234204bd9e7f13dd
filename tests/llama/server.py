"""A real llama.cpp server on this machine, in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

READY_WITHIN = 300.0  # seconds; a very busy machine takes many times the few of an idle one

SERVE = """
import signal, sys
import xllamacpp
model, template, port, places, context = *sys.argv[1:3], *map(int, sys.argv[3:])
options = xllamacpp.CommonParams()
options.model.path, options.hostnames, options.port, options.n_parallel, options.n_ctx = (
    model, ["127.0.0.1"], port, places, context
)
options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
options.n_threads_http = places + 8
options.verbosity = 1
if template:
    options.use_jinja, options.chat_template = True, template
server = xllamacpp.Server(options)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
"""


class LlamaServer:
    """``llama-server -m MODEL --parallel PLACES -c CONTEXT``; used as ``with LlamaServer(...) as server``.

    ``template`` is used in place of the model's own chat template.
    """

    def __init__(self, model: Path, places: int, context: int, template: str = "") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.words = [sys.executable, "-c", SERVE, str(model), template, str(self.port), str(places), str(context)]

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def __enter__(self) -> LlamaServer:
        self.log = tempfile.TemporaryFile("w+")  # as long as the server is
        self.process = subprocess.Popen(self.words, stdout=self.log, stderr=subprocess.STDOUT)
        latest = time.monotonic() + READY_WITHIN
        while time.monotonic() < latest and self.process.poll() is None:
            try:
                if httpx.get(f"{self.root}/health").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        self.log.seek(0)
        end = self.log.read()[-4000:]
        self.__exit__()
        raise RuntimeError(f"the llama.cpp server did not start:\n{end}")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()

    def busy(self) -> int:
        """How many of its places are taken."""
        return sum(place["is_processing"] for place in httpx.get(f"{self.root}/slots").json())
