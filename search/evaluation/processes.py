"""Process trees, read from ``/proc``: what they use, and how to end them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def _children() -> dict[int, list[int]]:
    """Children by parent, of all processes. Empty where there is no ``/proc``."""
    found: dict[int, list[int]] = {}
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return found
    for name in names:
        try:
            stat = Path("/proc", name, "stat").read_text()
        except OSError:
            continue
        parent = int(stat.rpartition(")")[2].split()[1])
        found.setdefault(parent, []).append(int(name))
    return found


def tree(pid: int) -> list[int]:
    """``pid`` and all its descendants, parents first."""
    children, found = _children(), [pid]
    for member in found:
        found.extend(children.get(member, ()))
    return found


def tree_bytes(pid: int) -> int:
    """Resident bytes of a process and its descendants. Pages that they share count in each."""
    total = 0
    for member in tree(pid):
        try:
            total += int(Path("/proc", str(member), "statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError):
            continue
    return total


def kill_tree(pid: int) -> None:
    """End a process and its descendants, in whatever sessions they are."""
    for member in tree(pid):
        try:
            os.kill(member, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
