"""Anchors: a task on which the power distribution reasons better than its tokens, with a model known exactly."""
