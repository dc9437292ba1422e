"""What bounds a candidate, from the parts of its time; and which rewrites may help with that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.graph import Score

BOUNDS = ("memory", "matrix", "vector", "latency", "launch", "local")
"""What a candidate may be held back by."""

_PARTS: Mapping[str, str] = {
    "dram_seconds": "memory", "cache_seconds": "memory", "matrix_seconds": "matrix",
    "vector_seconds": "vector", "local_seconds": "local", "latency_seconds": "latency",
    "dpe_busy_fraction": "matrix", "vector_busy_fraction": "vector", "se_busy_fraction": "vector",
    "re_busy_fraction": "vector", "mlu_busy_fraction": "local", "dma_in_busy_fraction": "memory",
    "dma_out_busy_fraction": "memory", "issue_busy_fraction": "latency",
    "lpddr_cycles": "memory", "sram_cycles": "memory", "launch_cycles": "launch",
}  # fmt: skip
"""Parts that targets report in ``Timing.detail``, by what they tell of."""

HELPS: Mapping[str, tuple[str, ...]] = {
    "retile": ("memory", "vector", "latency", "local"),
    "rows": ("memory", "latency", "local", "vector"),
    "interchange": ("memory", "latency"),
    "fuse": ("memory", "launch"),
    "fission": ("local",),
    "split": ("latency", "local"),
    "online": ("memory",),
    "flash": ("memory", "launch"),
    "hoist": ("vector", "memory", "latency"),
    "sink": ("local",),
    "unroll": ("latency",),
    "stage": ("latency", "memory"),
    "order": ("memory",),
    "group": ("memory",),
    "travers": ("memory",),
    "persist": ("launch", "latency"),
    "material": ("vector", "local"),
    "recompute": ("memory", "local"),
    "transpose": ("memory", "matrix", "local"),
    "pack": ("memory", "matrix"),
    "precision": ("matrix",),
    "accum": ("local", "vector"),
    "strength": ("vector",),
    "algebra": ("vector",),
    "cse": ("vector", "memory"),
    "dce": ("vector", "memory"),
    "dot": ("matrix", "vector"),
}
"""By a part of a rewrite's name: what it may help against."""


def diagnose(scores: Mapping[str, Score]) -> dict[str, float]:
    """Shares (0..1, the largest 1) of each bound, averaged over the targets.

    Sums of seconds or cycles are taken relative to the largest part of their target, busy
    fractions as they are. Empty where no target says anything.
    """
    total: dict[str, float] = {}
    for score in scores.values():
        for bound, share in _shares(score.detail).items():
            total[bound] = total.get(bound, 0.0) + share
    most = max(total.values(), default=0.0)
    return {b: x / most for b, x in sorted(total.items())} if most > 0 else {}


def _shares(detail: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, bound in _PARTS.items():
        value = detail.get(name)
        if isinstance(value, int | float):
            found[bound] = max(found.get(bound, 0.0), float(value))
    most = max(found.values(), default=0.0)
    if most <= 0:
        return {}
    if "issue_busy_fraction" in detail:
        # A unit that is idle most of the time waits: for a chain of dependent steps.
        found["latency"] = max(found.get("latency", 0.0), 1.0 - min(1.0, most))
        most = max(found.values())
    return {b: x / most for b, x in found.items()}


def relevance(rewrite: str, bounds: Mapping[str, float]) -> float:
    """How much a rewrite of this name may help, 0.25 to 1.25; 1 where nothing is known."""
    known = [helps for part, helps in HELPS.items() if part in rewrite]
    if not known or not bounds:
        return 1.0
    return 0.25 + max(bounds.get(b, 0.0) for helps in known for b in helps)
