"""What a paper would print of run folders: tables, intervals, tests and plots."""
