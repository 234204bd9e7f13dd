"""The embedded engine: a transformers model with continuous batching, on the CPU or a GPU."""

from powercut.engines.transformers.transformers_engine import TransformersEngine

__all__ = ["TransformersEngine"]
