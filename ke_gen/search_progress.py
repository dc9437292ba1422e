"""How a search goes, on the terminal: live lines there, nothing when piped."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from ke_gen.report import duration_text

if TYPE_CHECKING:
    from search.graph import Edge, Node
    from search.run import Search


class SearchProgress:
    """A listener. Use as a context manager."""

    def __init__(self) -> None:
        self._live: Any = None
        self._counts: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._best: dict[str, str] = {}
        self._begin = time.monotonic()
        self._head = ""

    def __enter__(self) -> SearchProgress:
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def candidate(self, node: Node, edge: Edge, new: bool) -> None:
        """One candidate was inserted."""
        self._counts["new" if new else "known"] += 1
        if new:
            self._failed.update({s.stage for s in node.scores.values() if s.stage})
        self._show()

    def round(self, search: Search) -> None:
        """A round is complete."""
        graph, config = search.graph, search.config
        limit = config.limits.candidates
        of = f" of {limit}" if limit else ""
        self._head = f"{search.id}: round {len(search.rounds)}, {search.evaluated}{of} candidates"
        from search.results import gain

        for target in config.targets:
            if (n := graph.best(target)) is not None:
                score = n.scores[target]
                ratio = gain(graph, n, target)
                by = f", {ratio:.2f}x the root's speed" if ratio else ""
                text = f"{duration_text(score.seconds or 0.0)} {score.kind}{by} ({n.key[:8]})"
                self._best[target] = text
        self._show()

    def _show(self) -> None:
        if self._live is None:
            return
        from rich.text import Text

        rate = self._counts["new"] / max(1e-9, time.monotonic() - self._begin)
        lines = [f"{self._head}, {rate:.1f} candidates/s"]
        lines += [f"  best on {target}: {text}" for target, text in self._best.items()]
        if self._failed:
            failed = ", ".join(f"{n} {stage}" for stage, n in self._failed.most_common())
            lines.append(f"  failed: {failed}")
        self._live.update(Text("\n".join(lines)))
