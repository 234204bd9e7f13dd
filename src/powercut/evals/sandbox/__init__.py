"""Where code that a model wrote is run: in docker, or on this machine under limits."""
