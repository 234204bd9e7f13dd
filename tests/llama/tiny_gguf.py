"""A small random Llama as a GGUF file, for the llama engine and for a llama.cpp server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

TOKENS = ("<|end|>", "!", "a", "\u00f0\u0141", "\u013a\u0122", *"bcdefghijklmnopqrstuvwxyz")
"""Token 0 is special; 3 and 4 are the halves of an emoji, F0 9F 98 80."""
HIDDEN = 3


def write_gguf(path: Path, model: Any, **facts: Any) -> Path:
    """A Llama of transformers in float32, whose vocabulary is the first of TOKENS; ``facts`` are further metadata."""
    config, weights = model.config, {name: value.float().numpy() for name, value in model.state_dict().items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(config.vocab_size)
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
    tokens = TOKENS[: config.vocab_size]
    writer.add_token_list(list(tokens))
    writer.add_token_types([gguf.TokenType.CONTROL, *[gguf.TokenType.NORMAL] * (len(tokens) - 1)])
    writer.add_token_merges(["\u00f0 \u0141"])
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    for name, value in facts.items():
        add = writer.add_bool if isinstance(value, bool) else writer.add_uint32
        add(name.replace("__", "."), value)
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
