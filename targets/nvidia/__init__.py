"""The NVIDIA target."""

from targets.nvidia.target import NvidiaTarget

__all__ = ["NvidiaTarget"]
