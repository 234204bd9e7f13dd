"""Runs of benchmarks: what they consist of, how they are run, what is kept of them."""
