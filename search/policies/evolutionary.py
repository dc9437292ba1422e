"""Islands, each with a MAP-Elites archive."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from search.parts import Pick

if TYPE_CHECKING:
    from search.graph import Node
    from search.parts import View

Cell = tuple[int, int, int]


def cell(node: Node) -> Cell:
    """The descriptor: kernels called, arithmetic intensity and local memory in powers of two."""
    f = node.features
    intensity = int(math.log2(1 + f.get("intensity", 0.0)))
    local = int(math.log2(1 + f.get("local_bytes", 0.0)))
    return (int(f.get("kernels", 1.0)), intensity, local)


class Evolutionary:
    """Parents are elites of their island's cells, better ones more often.

    An island's children stay on it; every ``migration`` rounds each island takes its parents from
    its neighbour's elites instead, so that what one found spreads.
    """

    oversample = 4
    guided = True

    def __init__(self, islands: int = 3, migration: int = 5) -> None:
        self.islands, self.migration = islands, migration
        self._archives: list[dict[Cell, str]] = [{} for _ in range(islands)]

    def observe(self, node: Node, view: View) -> None:
        """A node enters the archive of its island where it is the best of its cell."""
        score = view.scores.get(node.key, -math.inf)
        if score == -math.inf:
            return
        root = node.key in view.graph.roots
        for i in range(self.islands) if root else (node.island % self.islands,):
            archive, at = self._archives[i], cell(node)
            if at not in archive or view.scores[archive[at]] < score:
                archive[at] = node.key

    def pick(self, view: View, count: int, rng: random.Random) -> Sequence[Pick]:
        """In turn for each island."""
        found = []
        moving = self.migration and view.round % self.migration == self.migration - 1
        for i in range(count):
            island = i % self.islands
            source = (island + 1) % self.islands if moving else island
            parent = self._parent(view, self._archives[source], rng)
            if parent:
                found.append(Pick(parent, rng.choice((1, 1, 2, 3)), island=island))
        return found or [Pick(k, 2) for k in view.open()[:1] for _ in range(count)]

    def _parent(self, view: View, archive: dict[Cell, str], rng: random.Random) -> str:
        """By a tournament of two among the elites."""
        elites = [k for k in archive.values() if k not in view.exhausted]
        if not elites:
            return ""
        pair = (rng.choice(elites), rng.choice(elites))
        return max(pair, key=lambda k: view.scores[k])
