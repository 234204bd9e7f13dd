"""The engine for a model behind HTTP: vLLM, SGLang or llama.cpp's server."""

from powercut.engines.http.http_engine import HttpEngine

__all__ = ["HttpEngine"]
