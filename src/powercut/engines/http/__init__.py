"""The engine for a model behind HTTP: vLLM, SGLang or llama.cpp's server."""

from powercut.engines.http.engine import HttpEngine

__all__ = ["HttpEngine"]
