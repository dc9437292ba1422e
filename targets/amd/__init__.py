"""The AMD target."""

from targets.amd.target import AmdTarget

__all__ = ["AmdTarget"]
