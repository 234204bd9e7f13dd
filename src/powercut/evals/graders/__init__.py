"""Graders: from a problem and a completion's text to a Grade. A file or folder for each kind of answer.

``stated`` finds where an answer stands, for all but code. ``formula`` compares by ``equal``, which asks ``region``,
``quantity`` and ``expression`` about what ``latex`` takes apart, in ``processes`` of its own.
"""
