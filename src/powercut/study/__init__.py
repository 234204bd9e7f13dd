"""Exact studies of small models: every completion, every path of a sampler, and published variants to compare with."""
