"""A real ``vllm serve`` on this machine, to be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from powercut.engines.http.dialects import BY_OWNER

READY_WITHIN = 900.0  # seconds; a very busy machine takes many times the half minute of an idle one
OPTIONS = (
    "--dtype=float32 --enforce-eager --block-size=32 --max-num-batched-tokens=32768 --max-num-seqs=64 "
    "--kv-cache-memory-bytes=268435456 --logprobs-mode=raw_logprobs --enable-scale-out --enable-prompt-tokens-details"
)
ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # more threads than a small model can use wait for one another, spinning
    "OMP_NUM_THREADS": "1",
}
TINY = f"{OPTIONS} --skip-tokenizer-init --max-logprobs=6"


class VllmServer:
    """``vllm serve MODEL OPTIONS`` in processes of its own; used as ``with VllmServer(...) as server``."""

    def __init__(self, model: Path | str, options: str = TINY) -> None:
        self.model, self.options = model, options
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # as long as the server is

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> VllmServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.log.close()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # What the command runs; in the CPU build it stops at once, as that is not the package vllm.
        words = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", f"--model={self.model}"]
        self.process = subprocess.Popen(
            [*words, "--host=127.0.0.1", f"--port={self.port}", *self.options.split()],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env=os.environ | ENVIRONMENT,
            start_new_session=True,  # so that all its processes can be killed, and only they
        )
        latest = time.monotonic() + READY_WITHIN
        while time.monotonic() < latest and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{self.port}/health").status_code == 200:
                    return
            time.sleep(0.2)
        self.kill()
        self.log.seek(0)
        end = self.log.read()[-4000:]
        self.log.close()
        raise RuntimeError(f"vllm serve did not start:\n{end}")

    def serve(self, options: str) -> None:
        """Start it again with other options, unless it runs with these."""
        if (options, None) != (self.options, self.process.poll()):
            self.kill()
            self.options = options
            self.start()

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def spoken_to_by(kind: str) -> Iterator[None]:
    """Let ``pc.load`` see one of vLLM's two ways only: ``generate`` or ``completions``."""
    both: Any = BY_OWNER["vllm"]
    BY_OWNER["vllm"] = tuple(dialect for dialect in both if dialect.name == f"vLLM {kind}")
    try:
        yield
    finally:
        BY_OWNER["vllm"] = both
