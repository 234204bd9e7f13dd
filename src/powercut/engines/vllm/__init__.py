"""The vllm engine: an unpatched vLLM beside this process."""

from powercut.engines.vllm.engine import VllmEngine

__all__ = ["VllmEngine"]
