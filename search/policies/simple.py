"""Greedy, beam and plain random selection."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from search.parts import Memory, Pick

if TYPE_CHECKING:
    from search.graph import Node
    from search.parts import View


class _Stateless:
    """Decides from the view alone."""

    oversample = 4
    guided = True

    def observe(self, node: Node, view: View) -> None:
        """Nothing to remember."""


class Greedy(_Stateless):
    """Always the best node that still has something to offer; one in four picks goes further."""

    def pick(self, view: View, count: int, rng: random.Random) -> Sequence[Pick]:
        """All from one parent."""
        parents = view.open()[:1]
        return [Pick(p, _steps(rng)) for p in parents for _ in range(count)]


class Beam(_Stateless):
    """The ``width`` best nodes side by side; one that was expanded often makes room."""

    def __init__(self, width: int = 4, patience: int = 6) -> None:
        self.width, self.patience = width, patience

    def pick(self, view: View, count: int, rng: random.Random) -> Sequence[Pick]:
        """In turn from each member of the beam."""
        nodes = view.open()
        fresh = [k for k in nodes if view.visits.get(k, 0) < self.patience]
        beam = (fresh or nodes)[: self.width]
        if not beam:
            return []
        return [Pick(beam[i % len(beam)], _steps(rng)) for i in range(count)]


class Random(_Stateless):
    """Any correct node, any rewrite, nothing ranked: what every other policy must beat."""

    oversample = 1
    guided = False

    def pick(self, view: View, count: int, rng: random.Random) -> Sequence[Pick]:
        """Uniform over nodes, in order of insertion."""
        nodes = [k for _, _, k in sorted(view.ranked, key=lambda r: r[1])]
        nodes = [k for k in nodes if k not in view.exhausted]
        if not nodes:
            return []
        return [Pick(rng.choice(nodes), memory=Memory.CLEAN, guided=False) for _ in range(count)]


def _steps(rng: random.Random) -> int:
    """How many rewrites at once: mostly one; more to get past what one step only makes worse."""
    return rng.choice((1, 1, 1, 2, 2, 3))
