"""The ``run`` fixture for tests of the command."""

from tests.cli.conftest_cli import run

__all__ = ["run"]
