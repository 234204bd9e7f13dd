"""Lengths: what settings that shape the target do to length and answer, exactly on a tree, and on a model."""
