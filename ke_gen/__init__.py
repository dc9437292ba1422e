"""The commands: ``ke-gen --target T FILE``, ``check``, ``eval``, ``diff`` and ``targets``."""

VERSION = "0.1.0"
