"""What a paper would print of a run folder: tables, intervals, tests and plots."""
