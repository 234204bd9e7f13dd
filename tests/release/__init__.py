"""What is released: the built wheel, in venvs that have nothing else (pytest -m slow tests/release)."""
