"""The reasoning tree: how fast cut Metropolis-Hastings mixes, exactly, without a model."""
