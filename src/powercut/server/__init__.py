"""``powercut serve``: an engine behind OpenAI's API, each answer drawn by a sampler."""
