"""Divergence: how far new endings from a cut go apart, where the entropy jumps and where it does not."""
