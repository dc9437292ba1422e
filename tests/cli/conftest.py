"""The ``run`` fixture for all tests of the command."""

from tests.cli.conftest_cli import run

__all__ = ["run"]
