from tests.cli.conftest import engine

__all__ = ["engine"]
