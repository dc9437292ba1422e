"""Monte Carlo tree search with the UCT rule over the lineage tree."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from search.parts import Pick

if TYPE_CHECKING:
    from search.graph import Node
    from search.parts import View


@dataclass
class _Stats:
    """Of a subtree: how often it was entered, and the best score in it."""

    visits: int = 0
    best: float = -math.inf
    children: list[str] = field(default_factory=list)


class Mcts:
    """Descends from the roots by UCT; the value of a subtree is the best score found in it.

    A node may have ``widening * visits ** 0.5`` children before its best child is entered instead
    (progressive widening), since the rewrites of a node are many.
    """

    oversample = 4
    guided = True

    def __init__(self, exploration: float = 0.5, widening: float = 1.5) -> None:
        self.exploration, self.widening = exploration, widening
        self._stats: dict[str, _Stats] = {}

    def observe(self, node: Node, view: View) -> None:
        """Adds the outcome to every ancestor on the lineage."""
        score = view.scores.get(node.key, -math.inf)
        self._stats[node.key] = _Stats()
        path = view.graph.lineage(node.key)
        if len(path) > 1:
            self._stats[path[-2]].children.append(node.key)
        for k in path:
            stats = self._stats[k]
            stats.visits += 1
            stats.best = max(stats.best, score)

    def pick(self, view: View, count: int, rng: random.Random) -> Sequence[Pick]:
        """Picks of one round count as visits while it is put together, so that they spread."""
        pending: dict[str, int] = {}
        found = []
        ranked = view.ranked
        high, low = (-ranked[0][0], -ranked[-1][0]) if ranked else (0.0, 0.0)
        for _ in range(count):
            path = self._descend(view, pending, low, max(high - low, 1e-9))
            if not path:
                break
            for k in path:
                pending[k] = pending.get(k, 0) + 1
            found.append(Pick(path[-1], rng.choice((1, 1, 1, 2, 2, 3))))
        return found

    def _descend(self, view: View, pending: dict[str, int], low: float, spread: float) -> list[str]:
        path: list[str] = []
        choices = [r for r in view.graph.roots if self._usable(view, r)]
        total = sum(self._visits(r, pending) for r in choices)
        while choices:
            best = max(choices, key=lambda k: self._uct(k, total, pending, low, spread))
            path.append(best)
            total = self._visits(best, pending)
            children = [k for k in self._stats[best].children if self._usable(view, k)]
            full = len(children) + pending.get(best, 0) >= self.widening * math.sqrt(total)
            if best not in view.exhausted and not (full and children):
                return path
            choices = children
        # Everything below was exhausted: take the best node that is not.
        return next(([k] for k in view.open()), [])

    def _usable(self, view: View, k: str) -> bool:
        return view.scores.get(k, -math.inf) > -math.inf

    def _visits(self, k: str, pending: dict[str, int]) -> int:
        return max(1, self._stats[k].visits + pending.get(k, 0))

    def _uct(self, k: str, total: int, pending: dict[str, int], low: float, spread: float) -> float:
        visits = self._visits(k, pending)
        best = self._stats[k].best
        value = (best - low) / spread if best > -math.inf else 0.0
        return value + self.exploration * math.sqrt(math.log(max(2, total)) / visits)
