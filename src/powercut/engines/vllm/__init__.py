"""The vllm engine: an unpatched vLLM beside this process."""

from powercut.engines.vllm.vllm_engine import VllmEngine

__all__ = ["VllmEngine"]
