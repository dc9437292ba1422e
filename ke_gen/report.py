"""The table that ``ke-gen eval`` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ke_gen.terminal import paint, print_table, print_wrapped
from ke_ir.diagnostics import Diagnostic
from search.evaluation.verdict import Outcome

if TYPE_CHECKING:
    from search.evaluation.verdict import StageResult, Verdict
    from targets.base import Resources, Timing

HEADER = ("target", "verdict", "established", "time", "roofline", "resources")
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def print_file(file: str, verdicts: Sequence[Verdict]) -> None:
    """One table for each program of a file, with failures and remarks below it."""
    for name in dict.fromkeys(v.program for v in verdicts):
        mine = [v for v in verdicts if v.program == name]
        print(paint("bold", f"{file}: @{name}" if name else file))
        if name:
            styles = [{"correct": "good", "wrong": "bad"}.get(v.summary, "") for v in mine]
            print_table(HEADER, [_row(v) for v in mine], styles)
        _print_remarks(mine)
        print()


def rendered(stage: StageResult) -> list[str]:
    """The diagnostics of a failed stage as people read them; empty if it has none."""
    found = stage.detail.get("diagnostics", ())
    return [Diagnostic(**{**d, "expected": tuple(d["expected"])}).render() for d in found]


def _row(v: Verdict) -> tuple[str, ...]:
    established = v.established.value if v.established else "-"
    if v.numbers is not None and not v.numbers.at_full_size and v.established:
        established += " (reduced)"
    return (
        f"{v.target}.{v.arch}",
        v.summary,
        established,
        f"{duration(v.timing)} {v.timing.kind.value}" if v.timing else "-",
        f"{100 * v.roofline.fraction:.0f} % {v.roofline.bound}" if v.timing and v.roofline else "-",
        _resources(v.resources.values()),
    )


def duration(timing: Timing) -> str:
    """Seconds with three digits in a fitting unit."""
    return duration_text(timing.seconds)


def duration_text(seconds: float) -> str:
    """As ``duration``; of what kind the figure is, is for the caller to say."""
    scale, unit = next((u for u in _UNITS if seconds >= u[0]), _UNITS[-1])
    return f"{seconds / scale:.3g} {unit}"


def bytes_text(size: int) -> str:
    """Bytes below 1 KiB, else KiB with three digits."""
    return f"{size} B" if size < 1024 else f"{size / 1024:.3g} KiB"


def _resources(kernels: Iterable[Resources]) -> str:
    """The largest of each over a program's kernels: registers, local memory; least occupancy."""
    listed = list(kernels)
    parts = []
    if registers := [r.registers for r in listed if r.registers is not None]:
        parts.append(f"{max(registers)} regs")
    if spills := [r.spills for r in listed if r.spills]:
        parts.append(f"{max(spills)} spilled")
    if shared := [r.shared_bytes for r in listed if r.shared_bytes is not None]:
        parts.append(bytes_text(max(shared)))
    if occupancy := [r.occupancy for r in listed if r.occupancy is not None]:
        parts.append(f"occ. {100 * min(occupancy):.0f} %")
    return ", ".join(parts) or "-"


def _print_remarks(verdicts: Sequence[Verdict]) -> None:
    """Failures first, then how numbers, times and baselines stand; equal remarks once."""
    for v in verdicts:
        for s in v.stages:
            if s.outcome is Outcome.FAILED and (texts := rendered(s)):
                print("\n".join(texts))
    for pick in (_failures, _skipped, _remarks):
        said: dict[str, list[str]] = {}
        for v in verdicts:
            for text in pick(v):
                said.setdefault(text, []).append(_name(v))
        for text, names in said.items():
            everywhere = len(names) == len(verdicts) > 1
            print_wrapped(text if everywhere else f"{', '.join(names)}: {text}", "  ")


def _failures(v: Verdict) -> list[str]:
    mark = paint("bad", "failed")
    return [f"{s.stage} {mark}: {s.reason}" for s in v.failures if not rendered(s)]


def _skipped(v: Verdict) -> list[str]:
    """Stages skipped for a reason of their own: ``meaning``, and the first that was not tried."""
    skipped = [s for s in v.stages if s.outcome is Outcome.SKIPPED]
    own = [s for s in skipped if s.stage == "meaning"]
    if not v.failures:
        own += [s for s in skipped if s.stage != "meaning"][:1]
    return [f"{s.stage} skipped: {s.reason}" for s in own]


def _remarks(v: Verdict) -> list[str]:
    reasons = {s.stage: s.reason for s in v.stages if s.outcome is Outcome.PASSED}
    out = [f"{stage}: {reasons[stage]}" for stage in ("numbers", "time") if stage in reasons]
    if v.timing is not None:
        if once := v.timing.detail.get("once_seconds"):
            out.append(
                f"once per set of weights, beside the time: {duration_text(float(once))} "
                f"{v.timing.kind.value}"
            )
        out += [
            f"{b.name}: {duration(b.timing)} {b.timing.kind.value} in the same run, "
            f"{b.timing.seconds / v.timing.seconds:.2f} times this kernel's"
            for b in v.baselines
            if b.timing.kind is v.timing.kind
        ]
    if v.lower_precision:
        out.append(f"lower precision than the op's own types: {', '.join(v.lower_precision)}")
    if v.degenerate:
        out.append(f"degenerate task, no speed-up counts: {v.degenerate}")
    return out


def _name(v: Verdict) -> str:
    return f"{v.target}.{v.arch}" if v.target else f"@{v.program}" if v.program else v.file
