"""Grading code: the program in a completion, the judge of it, and the grade."""
