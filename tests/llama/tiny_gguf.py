"""A small random model of transformers as a GGUF file, for the llama engine and for a llama.cpp server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.tiny import BYTES

_FIRST = ("<|end|>", "!", "a", "\u00f0\u0141", "\u013a\u0122", *"bcdefghijklmnopqrstuvwxyz")
TOKENS = (*_FIRST, *(byte for byte in BYTES if byte not in _FIRST))
"""Token 0 is special; 3 and 4 are the halves of an emoji, F0 9F 98 80."""
MERGES = ("\u00f0 \u0141",)
HIDDEN = 3

_SETTINGS = {
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.dimension_count": "head_dim",
}
"""Names of a file's facts, and of the settings of transformers that they are, where a model has them."""


def write_gguf(path: Path, model: Any, **facts: Any) -> Path:
    """A Llama, Qwen2, Olmo3, Mamba or Jamba in float32, whose vocabulary is the first of TOKENS.

    ``facts`` are further metadata, of the model or ``tokenizer__...``; ``architecture`` is what the file calls the
    model's kind, if not as transformers do, and ``rule`` how text is cut.
    """
    config = model.config
    kind, rule = facts.pop("architecture", config.model_type), facts.pop("rule", "gpt-2")
    writer = gguf.GGUFWriter(path, kind)
    for name, value in (_facts(config) | {name.replace("__", "."): value for name, value in facts.items()}).items():
        _add(writer, name if name.startswith("tokenizer.") else f"{kind}.{name}", value)
    _add_vocabulary(writer, config.vocab_size, rule)
    architecture = next(each for each, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for name, value in model.state_dict().items():
        tensor = np.ascontiguousarray(_tensor(config, name, value.double().numpy()), np.float32)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _facts(config: Any) -> dict[str, Any]:
    """What llama.cpp must know of the model, by the names that it has in the file after the architecture's."""
    found = {name: getattr(config, setting, None) for name, setting in _SETTINGS.items()}
    facts = {name: value for name, value in found.items() if value is not None}
    if rope := getattr(config, "rope_parameters", None):
        facts["rope.freq_base"] = float(rope.get("full_attention", rope)["rope_theta"])
    if config.model_type == "mamba":
        state = (config.conv_kernel, config.intermediate_size, config.state_size, config.time_step_rank)
        facts["attention.layer_norm_rms_epsilon"] = config.layer_norm_epsilon
        facts["context_length"] = 256  # any number: it has no positions
    elif config.model_type == "jamba":
        inner = config.mamba_expand * config.hidden_size
        state = (config.mamba_d_conv, inner, config.mamba_d_state, config.mamba_dt_rank)
        heads = facts["attention.head_count_kv"]
        facts["attention.head_count_kv"] = [heads * (kind != "mamba") for kind in config.layers_block_type]
    else:
        return facts
    names = ("conv_kernel", "inner_size", "state_size", "time_step_rank")
    return facts | {f"ssm.{name}": value for name, value in zip(names, state, strict=True)}


def _tensor(config: Any, name: str, value: Any) -> Any:
    """A weight of transformers as llama.cpp has it."""
    if config.model_type == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
        # llama.cpp rotates neighbours, transformers halves
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        return value.reshape(heads, 2, -1, value.shape[-1]).swapaxes(1, 2).reshape(value.shape)
    if name.endswith("A_log"):
        return -np.exp(value)
    if name.endswith("conv1d.weight"):
        return value.squeeze(1)
    return value


def _add(writer: Any, name: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(name, value)
        return
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
    kinds[type(value)](name, value)


def _add_vocabulary(writer: Any, size: int, rule: str) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(list(TOKENS[:size]))
    writer.add_token_types([gguf.TokenType.CONTROL, *[gguf.TokenType.NORMAL] * (size - 1)])
    writer.add_token_merges(list(MERGES))
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
