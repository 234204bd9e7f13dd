"""Mixing: has a chain converged on a model? Coupled chains, and figures of many short ones."""
