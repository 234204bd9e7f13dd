"""Benchmarks: problems, prompts, graders."""
