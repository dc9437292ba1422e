"""Where a program's temporaries lie in one piece of memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ALIGNMENT = 256  # bytes: more than any load of a kernel asks for, and than any cache line


@dataclass(frozen=True)
class Lifetime:
    """A temporary's size in bytes, and the first and the last step that uses it."""

    bytes: int
    first: int
    last: int

    @property
    def padded(self) -> int:
        """The size up to where the next temporary may start."""
        return -(-self.bytes // ALIGNMENT) * ALIGNMENT

    def meets(self, other: Lifetime) -> bool:
        """Whether some step needs both."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """Where each temporary starts, and how many bytes all of them take."""

    offsets: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0


def lifetimes(steps: Sequence[Sequence[str]], sizes: Mapping[str, int]) -> dict[str, Lifetime]:
    """Of the tensors that have a size here. ``steps`` has the tensors that each step uses."""
    uses: dict[str, list[int]] = {}
    for i, names in enumerate(steps):
        for name in names:
            if name in sizes:
                uses.setdefault(name, []).append(i)
    return {n: Lifetime(sizes[n], places[0], places[-1]) for n, places in uses.items()}


def plan(temporaries: Mapping[str, Lifetime]) -> Plan:
    """The largest first, each in the smallest gap that those of its time have left."""
    placed: list[tuple[int, Lifetime]] = []  # by offset
    offsets: dict[str, int] = {}
    for name, t in sorted(temporaries.items(), key=lambda x: (-x[1].padded, x[1].first, x[0])):
        offsets[name] = _best(t, [(at, x) for at, x in placed if x.meets(t)])
        placed.append((offsets[name], t))
        placed.sort(key=lambda x: x[0])
    return Plan(offsets, max((at + t.padded for at, t in placed), default=0))


def _best(t: Lifetime, taken: Sequence[tuple[int, Lifetime]]) -> int:
    """The start of the smallest gap that has room, else the end of what is taken."""
    gaps, end = [], 0
    for at, x in taken:
        if at - end >= t.padded:
            gaps.append((at - end, end))
        end = max(end, at + x.padded)
    return min(gaps)[1] if gaps else end
