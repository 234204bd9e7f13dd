"""Decisions: where a model decides, by what its final answer depends on, and whether entropy jumps mark the place."""
