"""A tiny random model of every causal family that transformers ships, for tests that sweep over them."""

from __future__ import annotations

from typing import Any

import torch
import transformers

VOCAB = 99
MOST_PARAMETERS = 10_000_000
"""What is larger is not tiny: some setting that makes it so is not known here."""

LAYERS, HEADS, HEAD_DIM, HIDDEN, INNER, LENGTH, WINDOW = 4, 4, 8, 32, 48, 256, 8


def _all(names: str, value: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), value)


SIZES: dict[str, Any] = {
    **_all("hidden_size d_model n_embd dim embed_dim emb_dim word_embed_proj_dim lru_width", HIDDEN),
    **_all("embedding_size num_layers num_hidden_layers", LAYERS),
    **_all("n_layer n_layers decoder_layers num_decoder_layers num_encoder_layers", LAYERS),
    **_all("num_attention_heads num_heads n_head n_heads decoder_attention_heads", HEADS),
    **_all("num_decoder_attention_heads mamba_n_heads mamba_num_heads n_mamba_heads", HEADS),
    **_all("num_key_value_heads num_global_key_value_heads linear_num_key_heads", HEADS // 2),
    **_all("head_dim global_head_dim attention_head_dim attention_head_size kv_channels", HEAD_DIM),
    **_all("qk_nope_head_dim qk_rope_head_dim v_head_dim linear_key_head_dim", HEAD_DIM),
    **_all("linear_value_head_dim linear_head_dim hidden_size_per_layer_input", HEAD_DIM),
    **_all("intermediate_size dense_intermediate_size intermediate_size_mlp mlp_hidden_size", INNER),
    **_all("block_ff_dim ffn_dim ffn_hidden_size d_ff dff decoder_ffn_dim d_inner n_inner", INNER),
    **_all("moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size", 16),
    **_all("expert_ffn_hidden_size q_lora_rank kv_lora_rank qk_head_dim", 16),
    **_all("mamba_d_head mamba_head_dim mamba_headdim", 16),
    **_all("max_position_embeddings n_positions n_ctx max_seq_len model_max_length", LENGTH),
    **_all("num_experts n_routed_experts num_local_experts moe_num_experts", 4),
    **_all("num_experts_per_tok moe_k moe_topk num_experts_per_token", 2),
    **_all("n_group topk_group mamba_n_groups n_groups encoder_layers", 1),
    **_all("sliding_window window_size attention_window_size attention_chunk_size", WINDOW),
    **_all("keep_window_size sliding_window_size index_topk chunk_size mamba_chunk_size", WINDOW),
    **_all("mamba_d_state ssm_state_size state_size", 8),
    "embedding_size": HIDDEN,
    "vocab_size": VOCAB,
    "unpadded_vocab_size": VOCAB,
    "rotary_dim": 4,
    "mamba_d_ssm": 64,
    "linear_num_value_heads": HEADS,
    "linear_num_heads": HEADS,
    "is_decoder": True,
    "is_encoder_decoder": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Values of settings, wherever a family has a setting of that name."""

ALTERNATING = ["linear_attention", "full_attention"] * 2
LATENT = {"num_key_value_heads": HEADS}
"""Attention by latent vectors has no groups of heads."""

SPECIAL: dict[str, dict[str, Any]] = {
    **_all("axk1 axk2 deepseek_v2 deepseek_v3 deepseek_v32 glm4_moe_lite glm_moe_dsa", LATENT),
    **_all("longcat_flash minicpm3 sarvam_mla youtu", LATENT),
    "bailing_hybrid": LATENT | {"layer_group_size": 2},
    "bamba": {"attn_layer_indices": [1, 3]},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("sliding_attention", "full_attention")
        },
    },
    "cpmant": {"dim_head": 8, "dim_ff": INNER, "position_bias_num_buckets": 16, "prompt_length": 4},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "dots1": {"n_shared_experts": 1},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gemma4_text": {"vocab_size_per_layer_input": VOCAB},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": LATENT | {"layer_types": ALTERNATING},
    "lfm2_moe": {"num_dense_layers": 1, "layer_types": ["conv", "full_attention"] * 2},
    "llama4_text": {"floor_scale": 4},  # scales attention by position from the fourth token on
    "mamba2": {"head_dim": 16},
    "minimax_m3_vl_text": {"index_block_size": 2, "index_topk_blocks": 2},
    "ministral3": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "factor": 16.0,
            "original_max_position_embeddings": 16,
            "llama_4_scaling_beta": 0.5,
        }
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
        "hc_lowrank": 8,
        "ple_embed_dim": HIDDEN,
        "heads_per_ngram": 1,
        "ngram_vocab_size_base": 128,
        "split_ngram_parts": 2,
        "make_ngram_vocab_size_divisible_by": 8,
    },
    "reformer": {
        "axial_pos_embds_dim": [16, 16],
        "axial_pos_shape": [16, 16],
        "attn_layers": ["local", "local"],
        "local_attn_chunk_length": WINDOW,
    },
    "roc_bert": {"pronunciation_vocab_size": 9, "shape_vocab_size": 9, "shape_embed_dim": 8},
    "xlm": {"causal": True},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 9, "attn_layer_period": 2, "attn_layer_offset": 1} | LATENT,
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"] * 2} | LATENT,
    "zaya": {"num_experts_per_tok": 1},
}
"""What else makes a family tiny, or brings out what it does to long contexts."""

OTHER = "for other input than text: its text part is another family"
NOT_TINY: dict[str, str] = {
    **_all("fuyu gemma3 gemma3n gemma4_unified got_ocr2 moss_transcribe_diarize", OTHER),
    **_all("dots3_note qwen4_exp", OTHER),
    **_all("gemma4_assistant gemma4_unified_assistant", "drafts for another model, with its cache"),
    **_all("musicgen musicgen_melody", "writes sound, several tokens at a time"),
    "blt": "reads bytes in patches that another model inside it chooses",
    "dots3_note_text": "has sizes that no setting changes",
    "xlstm": "its kernels know certain sizes only",
}
"""The families of which no tiny model is made here, and why."""


def families() -> dict[str, Any]:
    """Configuration classes of all causal families by their model_type."""
    return {kind.model_type: kind for kind in transformers.MODEL_FOR_CAUSAL_LM_MAPPING}


def tiny_family(kind: str, *, dtype: torch.dtype = torch.float32, seed: int = 0, **settings: Any) -> Any:
    """A random model of the family, whose laws are far from uniform; the global seed stays untouched."""
    config = _tiny_config(families()[kind], settings)
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(config)
    size = sum(parameter.numel() for parameter in empty.parameters())
    assert size <= MOST_PARAMETERS, f"{kind} has {size / 1e6:.0f} million parameters"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    for parameter in model.parameters():  # not model.to(dtype), which would round the rotary frequencies as well
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model.eval().requires_grad_(False)


def _tiny_config(config_class: Any, others: dict[str, Any]) -> Any:
    names = set(getattr(config_class, "attribute_map", {}))
    for base in config_class.__mro__:
        names |= set(getattr(base, "__annotations__", {}))
    settings = {name: value for name, value in SIZES.items() if name in names}
    for name, part in getattr(config_class, "sub_configs", {}).items():
        if part is not transformers.AutoConfig:
            settings[name] = _tiny_config(part, {})
    return config_class(**settings | SPECIAL.get(config_class.model_type, {}) | others)
