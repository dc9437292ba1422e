"""The Markdown table of a sweep: each operator's samples, in meaning and on targets."""

from __future__ import annotations

import datetime
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

Record = Mapping[str, Any]
OUTCOMES = ("passed", "skipped", "unsupported", "failed")


def table(records: Sequence[Record], command: str) -> str:
    """A page: counts, operators that are covered, then those that are not, each with reasons."""
    counts = {r["op"]: Counter(s["outcome"] for s in r["samples"]) for r in records}
    held = [r for r in records if counts[r["op"]]["passed"] or counts[r["op"]]["failed"]]
    whole = [
        r for r in held if not counts[r["op"]]["failed"] and not counts[r["op"]]["unsupported"]
    ]
    missing = [r for r in records if r not in held and counts[r["op"]]["unsupported"]]
    outside = [r for r in records if r not in held and r not in missing]
    overloads = {o for r in held for s in r["samples"] if s["outcome"] == "passed"
                 for o in s["overloads"]}  # fmt: skip
    targets = sorted({t for r in records for t in r.get("targets", {})})
    what = "gradients of OpInfo's" if "--backward" in command else "OpInfo's"
    lines = [
        "# ATen, by PyTorch's own samples",
        "",
        f"`{command}`, {datetime.date.today()}; torch {version('torch')}, numpy "
        f"{version('numpy')}, triton {version('triton')}, Python {platform.python_version()}.",
        "",
        f"Of {what} {len(records)} entries (operators and their variants), **{len(whole)} pass in "
        f"every sample that was taken and is in scope**, {len(held) - len(whole)} in some, "
        f"{len(missing)} are not imported, and of {len(outside)} no sample is in scope. What "
        f"passes goes through {len(overloads)} ATen overloads.",
        "A sample passes when the imported op, evaluated in float64, gives what PyTorch gives in "
        "float64, within 1e-9.",
        "Skipped are empty tensors, complex numbers, random numbers, sizes that depend on data, "
        "and what `torch.export` or PyTorch itself refuses.",
    ]
    for t in targets:
        lines.append(_on_target(held, t))
    lines += ["", "## Covered", "", _row(["operator", *OUTCOMES, *targets, "remarks"]),
              _row(["---"] * (6 + len(targets)))]  # fmt: skip
    for r in held:
        cells = [str(counts[r["op"]][o] or "") for o in OUTCOMES]
        cells += [_verdicts(r.get("targets", {}).get(t, [])) for t in targets]
        lines.append(_row([f"`{r['op']}`", *cells, _remarks(r, targets)]))
    lines += ["", "## Not imported", "", _row(["operator", "what is missing"]), _row(["---"] * 2)]
    lines += [_row([f"`{r['op']}`", _reasons(r, "unsupported")]) for r in missing]
    lines += ["", "## No sample in scope", "", _row(["operator", "why"]), _row(["---"] * 2)]
    lines += [_row([f"`{r['op']}`", _reasons(r, "skipped") or "no samples of these dtypes"])
              for r in outside]  # fmt: skip
    return "\n".join(lines) + "\n"


def _on_target(held: Iterable[Record], target: str) -> str:
    tried = [v for r in held if (v := r.get("targets", {}).get(target))]
    good = sum(all(x["outcome"] == "passed" for x in v) for v in tried)
    how = Counter(x["established"] for v in tried for x in v if x["established"])
    said = ", ".join(f"{n} {h}" for h, n in how.most_common())
    return (
        f"\nOn {target}, compiled and run as `ke-gen eval` does: {good} of {len(tried)} that were "
        f"tried there ({said}). Inputs are drawn anew, where the op is defined if "
        "possible; what is no number on most of them counts as failed."
    )


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _verdicts(found: Sequence[Record]) -> str:
    return ", ".join(f"{n} {o}" for o, n in sorted(Counter(x["outcome"] for x in found).items()))


def _remarks(r: Record, targets: Sequence[str]) -> str:
    said = [x for o in ("failed", "unsupported") if (x := _reasons(r, o))]
    bad: dict[str, list[str]] = {}
    for t in targets:
        for x in r.get("targets", {}).get(t, []):
            if x["outcome"] != "passed":
                bad.setdefault(_short(x["reason"]), []).append(t.partition(".")[0])
    return "; ".join([*said, *(f"{', '.join(on)}: {why}" for why, on in bad.items())])


def _reasons(r: Record, outcome: str) -> str:
    return "; ".join(sorted({_short(s["reason"]) for s in r["samples"]
                             if s["outcome"] == outcome and s["reason"]})[:3])  # fmt: skip


def _short(reason: str) -> str:
    return reason.replace("|", "\\|").replace("\n", " ")[:120]
