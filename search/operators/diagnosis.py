"""What bounds a candidate, with the evidence; and which rewrites may help with that.

One structure for every target, filled from the parts of a time, measured, simulated or estimated,
and from what the compiler says a kernel uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from targets.base import TargetError
from targets.registry import find_target

if TYPE_CHECKING:
    from search.graph import Score

BOUNDS = (
    "memory", "matrix", "vector", "latency", "occupancy", "spills", "local", "launch", "numerics",
)  # fmt: skip
"""What a candidate may be held back by. ``local``: stalls on local or shared memory."""

_PARTS: Mapping[str, str] = {
    "dram_seconds": "memory", "cache_seconds": "memory", "matrix_seconds": "matrix",
    "vector_seconds": "vector", "local_seconds": "local", "latency_seconds": "latency",
    "dpe_busy_fraction": "matrix", "vector_busy_fraction": "vector", "se_busy_fraction": "vector",
    "re_busy_fraction": "vector", "mlu_busy_fraction": "local", "dma_in_busy_fraction": "memory",
    "dma_out_busy_fraction": "memory", "issue_busy_fraction": "latency",
    "lpddr_cycles": "memory", "sram_cycles": "memory", "launch_cycles": "launch",
}  # fmt: skip
"""Parts that targets report in ``Timing.detail``, by what they tell of."""

_LOW_OCCUPANCY = 0.25
"""Below this, too few threads are resident to hide latency."""
_NEAR_BOUND = 0.5
"""An error above this share of its bound leaves little room for lower precision."""

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


@dataclass(frozen=True)
class Finding:
    """One bound on one target: ``share`` 0..1, 1 for the most pressing, and what tells of it."""

    bound: str
    share: float
    target: str
    evidence: str


@dataclass(frozen=True)
class Failure:
    """Where a candidate failed on a target (on all of them if empty), and why."""

    target: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Diagnosis:
    """``findings`` are sorted by target, most pressing first; ``failures`` come before speed."""

    findings: tuple[Finding, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def bounds(self) -> dict[str, float]:
        """Shares (0..1, the largest 1) of what holds back the speed, averaged over the targets."""
        total: dict[str, float] = {}
        for f in self.findings:
            if f.bound != "numerics":
                total[f.bound] = total.get(f.bound, 0.0) + f.share
        most = max(total.values(), default=0.0)
        return {b: x / most for b, x in sorted(total.items())} if most > 0 else {}


def diagnose(scores: Mapping[str, Score]) -> Diagnosis:
    """What holds a candidate back on each target that says anything, and where it failed."""
    findings: list[Finding] = []
    failures: list[Failure] = []
    for target, score in scores.items():
        if score.stage:
            failures.append(Failure(target, score.stage, score.reason))
        found = [*_parts(target, score), *_resources(target, score), *_numerics(target, score)]
        findings += sorted(found, key=lambda f: (-f.share, BOUNDS.index(f.bound)))
    return Diagnosis(tuple(findings), tuple(failures))


def _parts(target: str, score: Score) -> Iterator[Finding]:
    """From the parts of the time, sums of seconds or cycles relative to the largest of them."""
    shares: dict[str, tuple[float, str]] = {}
    for name, bound in _PARTS.items():
        value = score.detail.get(name)
        if isinstance(value, int | float) and float(value) > shares.get(bound, (0.0, ""))[0]:
            shares[bound] = float(value), _said(name, float(value), score)
    if traffic := _traffic(target, score):
        shares["memory"] = max(traffic, shares.get("memory", (0.0, "")))
    most = max((share for share, _ in shares.values()), default=0.0)
    if most <= 0:
        return
    if "issue_busy_fraction" in score.detail:
        # A unit that is idle most of the time waits: for a chain of dependent steps.
        idle = 1.0 - min(1.0, most)
        waits = f"every unit is idle for {100 * idle:.0f} % of the time"
        shares["latency"] = max((idle, waits), shares.get("latency", (0.0, "")))
        most = max(share for share, _ in shares.values())
    for bound, (share, said) in shares.items():
        yield Finding(bound, share / most, target, f"{said} ({score.kind or 'not timed'})")


def _said(name: str, value: float, score: Score) -> str:
    what, _, unit = name.rpartition("_")
    if unit == "fraction":
        return f"{what.removesuffix('_busy')} busy {100 * value:.0f} % of the time"
    if unit == "seconds" and score.seconds:
        return f"{what} {1e6 * value:.3g} us of {1e6 * score.seconds:.3g} us"
    return f"{what} {value:.3g} {unit}"


def _traffic(target: str, score: Score) -> tuple[float, str] | None:
    """The share of off-chip bandwidth that is used, where a target counts the bytes."""
    moved = score.detail.get("lpddr_bytes")
    if not isinstance(moved, int | float) or not score.seconds:
        return None
    try:
        peak = find_target(target).spec.dram_bytes_per_s
    except TargetError:
        return None
    share = float(moved) / score.seconds / peak
    return share, f"{moved:.3g} B off chip, {100 * share:.0f} % of that bandwidth"


def _resources(target: str, score: Score) -> Iterator[Finding]:
    """The worst kernel's spills and occupancy, as the compiler says."""
    used: Mapping[str, Mapping[str, Any]] = score.resources
    spills = [(r["spills"], name) for name, r in used.items() if r.get("spills")]
    if spills:
        count, name = max(spills)
        yield Finding("spills", 1.0, target, f"{name} spills {count} registers (compiler)")
    low = [(r["occupancy"], name) for name, r in used.items() if r.get("occupancy") is not None]
    if low and (least := min(low))[0] < _LOW_OCCUPANCY:
        said = f"{least[1]} has occupancy {least[0]:.2f} (compiler)"
        yield Finding("occupancy", 1.0 - least[0] / _LOW_OCCUPANCY, target, said)


def _numerics(target: str, score: Score) -> Iterator[Finding]:
    """How near the error is to its bound: what is left for lower precision."""
    found = re.search(r"worst error ([\d.e+-]+) of its bound", score.reason)
    if found and not score.stage and float(found[1]) >= _NEAR_BOUND:
        said = f"the worst error is {found[1]} of its bound"
        yield Finding("numerics", min(1.0, float(found[1])), target, said)


def relevance(rewrite: str, bounds: Mapping[str, float]) -> float:
    """How much a rewrite of this name may help, 0.25 to 1.25; 1 where nothing is known."""
    known = [helps for part, helps in HELPS.items() if part in rewrite]
    if not known or not bounds:
        return 1.0
    return 0.25 + max(bounds.get(b, 0.0) for helps in known for b in helps)
