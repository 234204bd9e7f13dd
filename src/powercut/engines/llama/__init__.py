"""The llama engine: any GGUF file, decoded by llama.cpp in this process. Neither torch nor transformers is imported."""

from powercut.engines.llama.llama_engine import LlamaEngine

__all__ = ["LlamaEngine"]
