"""Says in one line why something failed. Used in worker processes."""

from __future__ import annotations


class Explained(Exception):
    """An error whose own message is the reason, whatever caused it."""


def one_line(error: BaseException) -> str:
    """The message that says most: the innermost cause's first line, with its type."""
    if isinstance(error, Explained):
        return str(error)
    while error.__cause__ is not None:
        error = error.__cause__
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def is_memory(error: BaseException) -> bool:
    """Whether an allocator said that there is no memory."""
    text = str(error)
    return "out of memory" in text or "can't allocate memory" in text or "MemoryError" in text
