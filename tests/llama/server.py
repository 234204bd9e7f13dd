"""A real llama.cpp server on this machine, in a process of its own, and a random model of six tokens for it."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gguf
import httpx
import numpy as np

READY_WITHIN = 300.0  # seconds; a very busy machine takes many times the few of an idle one
TOKENS = ("<|end|>", "!", "a", "\u00f0\u0141", "\u013a\u0122", "b")  # 3 and 4 are the halves of an emoji, F0 9F 98 80
HIDDEN = 3

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


def write_gguf(path: Path, model: Any) -> Path:
    """A Llama of transformers with the vocabulary TOKENS, in float32."""
    config, weights = model.config, {name: value.numpy() for name, value in model.state_dict().items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(len(TOKENS))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(TOKENS))
    writer.add_token_types([gguf.TokenType.CONTROL, *[gguf.TokenType.NORMAL] * (len(TOKENS) - 1)])
    writer.add_token_merges(["\u00f0 \u0141"])
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, value in weights.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # llama.cpp rotates neighbours, transformers halves
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            value = value.reshape(heads, 2, -1, value.shape[-1]).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.ascontiguousarray(value, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
