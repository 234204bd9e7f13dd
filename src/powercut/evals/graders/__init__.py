"""Graders: from a problem and a completion's text to a Grade. One file a kind of answer."""
