"""Continuous batching, for every engine that computes passes itself: who decodes when, and who holds what. No torch."""
