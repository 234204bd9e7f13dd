"""powercut inside other frameworks: Inspect and lm-evaluation-harness."""
