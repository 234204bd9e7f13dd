"""Small real models for tests: randomly initialised from a seed, in memory or saved to a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models

from powercut.models.libraries import quiet

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
EOS = "<|end|>"
SPECIAL = (EOS, "<|user|>", "<|assistant|>", "<|system|>")
"""Their ids are 0, 1, 2, 3; the bytes come after."""
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

_CLASSES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
    "mistral-sliding": (transformers.MistralConfig, transformers.MistralForCausalLM),
    "gemma3": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
    "mamba": (transformers.MambaConfig, transformers.MambaForCausalLM),
    "gpt-neox": (transformers.GPTNeoXConfig, transformers.GPTNeoXForCausalLM),
}
KINDS = tuple(_CLASSES)


def tiny_model(
    kind: str = "llama",
    *,
    vocab_size: int = 4,
    layers: int = 2,
    hidden: int = 32,
    heads: int = 4,
    kv_heads: int = 2,
    window: int = 4,
    context: int = 256,
    scale: float = 1.4,
    eos: int | Sequence[int] = 0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """A model of ``kind`` (one of KINDS) whose next-token laws are far from uniform; the global seed stays untouched.

    ``scale`` is the standard deviation of the logits, about. ``window`` is the sliding window of mistral-sliding and
    of gemma3's first layer; gemma3 also has a full layer. Mamba computes its logits in float32 whatever ``dtype``.
    """
    config_class, model_class = _CLASSES[kind]
    ids = eos if isinstance(eos, int) else list(eos)
    config = config_class(
        vocab_size=vocab_size,
        bos_token_id=None,
        eos_token_id=ids,
        pad_token_id=None,
        tie_word_embeddings=False,
        **_sizes(kind, layers, hidden, heads, kv_heads, window, context),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
        for parameter in model.parameters():
            if parameter.ndim >= 2:  # norms and biases keep what they have
                fan_in = parameter[0].numel()
                torch.nn.init.normal_(parameter, std=fan_in**-0.5)
        torch.nn.init.normal_(model.get_input_embeddings().weight, std=1.0)
        torch.nn.init.normal_(model.get_output_embeddings().weight, std=scale * hidden**-0.5)
    model.generation_config = transformers.GenerationConfig(eos_token_id=ids)
    # Not model.to(dtype), which would round the rotary frequencies as well; loading does not.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model.eval().requires_grad_(False)


def _sizes(kind: str, layers: int, hidden: int, heads: int, kv_heads: int, window: int, context: int) -> dict[str, Any]:
    if kind == "gpt2":
        no_dropout: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        return {"n_embd": hidden, "n_layer": layers, "n_head": heads, "n_positions": context, **no_dropout}
    if kind == "mamba":
        return {"hidden_size": hidden, "state_size": 4, "num_hidden_layers": layers, "expand": 2}
    sizes: dict[str, Any] = {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": context,
    }
    if kind == "gpt-neox":
        return sizes
    sizes |= {"num_key_value_heads": kv_heads, "head_dim": hidden // heads}
    if kind in ("mistral-sliding", "gemma3"):
        sizes["sliding_window"] = window
    if kind == "gemma3":
        sizes["layer_types"] = ["sliding_attention"] + ["full_attention"] * (layers - 1)
        sizes["query_pre_attn_scalar"] = hidden // heads
    return sizes


def tiny_tokenizer(*, chat_template: bool = True) -> Any:
    """A tokenizer of one token a byte, after SPECIAL; any text round-trips. 260 ids."""
    vocab = {token: index for index, token in enumerate((*SPECIAL, *BYTES))}
    tokenizer = Tokenizer(tokenizer_models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=EOS)
    if chat_template:
        fast.chat_template = TEMPLATE
    return fast


def tiny_folder(
    path: Path,
    kind: str = "llama",
    *,
    vocab_size: int = len(SPECIAL) + len(BYTES),
    tokenizer: bool = True,
    chat_template: bool = True,
    **settings: Any,
) -> Path:
    """A folder as save_pretrained writes it: weights, config, generation config and (unless switched off) tokenizer."""
    with quiet():
        tiny_model(kind, vocab_size=vocab_size, **settings).save_pretrained(path)
    if tokenizer:
        tiny_tokenizer(chat_template=chat_template).save_pretrained(path)
    return path


def tiny_llama_folder(path: Path, **settings: Any) -> Path:
    """``tiny_folder`` of a Llama model."""
    return tiny_folder(path, "llama", **settings)
