"""The Markdown page of a run: what is correct, how fast it is, and why the rest failed."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search.kernelbench import stages
from search.kernelbench.families import in_order
from search.kernelbench.results import Line, Results
from search.kernelbench.stages import Plan

_MOST_NAMED = 12
_BASELINES = ("eager", "torch.compile")


@dataclass
class _Problem:
    """All lines of one problem, by (stage, target)."""

    key: str
    name: str
    lines: dict[tuple[str, str], Line] = field(default_factory=dict)

    @property
    def level(self) -> int:
        return int(self.key.partition("/")[0])

    @property
    def families(self) -> list[str]:
        load = self.lines.get((stages.LOAD, ""))
        return list(load.detail.get("families", [])) if load else []

    def passed(self, stage: str, target: str = "") -> bool:
        found = self.lines.get((stage, target))
        return found is not None and found.passed

    def degenerate(self, target: str = "") -> str:
        for stage, where in ((stages.NUMBERS, target), (stages.LOAD, "")):
            found = self.lines.get((stage, where))
            if found is not None and found.detail.get("degenerate"):
                return str(found.detail["degenerate"])
        return ""

    def speedup(self, target: str, baseline: str) -> float | None:
        """The baseline's time over ours; None where not both were measured."""
        found = self.lines.get((stages.TIME, target))
        timings = found.detail.get("timings", {}) if found is not None and found.passed else {}
        if baseline not in timings or "candidate" not in timings:
            return None
        return float(timings[baseline]["median"]) / float(timings["candidate"]["median"])


def summary(results: Results, plan: Plan) -> str:
    """The page for one mode and its targets."""
    problems = _problems(results, plan)
    parts = [f"# KernelBench, {_title(plan)}", _made_with(results, problems, plan), _key(plan)]
    parts += ["## Problems that passed each stage", _counts(problems, plan)]
    if not plan.reduced:
        for target in plan.targets:
            parts += _speed(problems, target)
    parts += ["## By family", _by_family(problems, plan)]
    parts += list(_degenerate(problems, plan))
    parts += ["## What failed, and why", _failures(problems)]
    for target in plan.targets:
        parts += _beyond_float32(problems, target)
    if not plan.reduced:
        for target in plan.targets:
            parts += _each(problems, target)
    return "\n\n".join(p for p in parts if p) + "\n"


def _title(plan: Plan) -> str:
    sizes = "at reduced sizes" if plan.reduced else "at the problems' own sizes"
    return sizes + (", convolutions and recurrent layers in TF32" if plan.tf32 else "")


def _problems(results: Results, plan: Plan) -> list[_Problem]:
    found: dict[str, _Problem] = {}
    for one in results.lines.values():
        if one.mode == plan.mode and one.target in ("", *plan.targets):
            problem = found.setdefault(one.problem, _Problem(one.problem, one.name))
            problem.lines[one.stage, one.target] = one
    return sorted(found.values(), key=lambda p: tuple(map(int, p.key.split("/"))))


def _made_with(results: Results, problems: Sequence[_Problem], plan: Plan) -> str:
    run = results.runs[-1] if results.runs else {}
    devices = {
        f"{d['name']} ({d['arch']}), {d['runtime']}"
        for p in problems for t in plan.targets
        if (found := p.lines.get((stages.TIME, t))) and (d := found.detail.get("device"))
    }  # fmt: skip
    versions = ", ".join(f"{k} {v}" for k, v in run.get("versions", {}).items())
    on = f" Times are **measured** on {'; '.join(sorted(devices))}." if devices else ""
    return f"{len(problems)} problems. Made with {versions} on {run.get('machine', '?')}.{on}"


def _key(plan: Plan) -> str:
    names = dict.fromkeys(stage for stage, _ in plan.stages())
    return "\n".join(f"- **{name}**: {stages.MEANING[name]}" for name in names)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _counts(problems: Sequence[_Problem], plan: Plan) -> str:
    levels = sorted({p.level for p in problems})
    header = ["stage", *(f"level {n}" for n in levels), "all"]
    rows = []
    for stage, target in plan.stages():
        row = [f"{stage} {target}".strip()]
        for group in (*([p for p in problems if p.level == n] for n in levels), problems):
            row.append(_count(group, stage, target))
        rows.append(row)
    return _table(header, rows)


def _count(group: Sequence[_Problem], stage: str, target: str) -> str:
    good = sum(p.passed(stage, target) for p in group)
    lines = [p.lines[stage, target] for p in group if (stage, target) in p.lines]
    untried = sum(x.outcome.value == "skipped" for x in lines)
    tail = f", {untried} not tried" if untried else ""
    return f"{good} of {len(group)}{tail}"


def _speed(problems: Sequence[_Problem], target: str) -> Iterator[str]:
    """fast_p and geometric means, of all problems and by level."""
    if not any(p.passed(stages.TIME, target) for p in problems):
        return
    yield f"## Speed on {target}"
    yield (
        "fast_p is the fraction of all problems that pass the check and are more than p times as "
        "fast as the baseline; geomean is over those that pass and were timed against it. The "
        "baselines run by PyTorch's defaults, TF32 in cuDNN included, whatever the check. "
        "Degenerate problems are in no figure of this table."
    )
    rows = []
    fair = [p for p in problems if not p.degenerate(target)]
    levels = sorted({p.level for p in fair})
    for check in (stages.KERNELBENCH, stages.FLOAT32):
        for baseline in _BASELINES:
            for level in (*levels, 0):
                group = [p for p in fair if level in (0, p.level)]
                name = f"level {level}" if level else "all"
                rows.append([check, baseline, name, *_figures(group, target, check, baseline)])
    yield _table(["check", "against", "problems", "correct", "fast_1", "fast_2", "geomean"], rows)


def _figures(group: Sequence[_Problem], target: str, check: str, baseline: str) -> list[str]:
    correct = [p for p in group if p.passed(check, target)]
    ratios = [s for p in correct if (s := p.speedup(target, baseline)) is not None]
    fast = [sum(s > limit for s in ratios) / max(1, len(group)) for limit in (1, 2)]
    return [f"{len(correct)} of {len(group)}", *(f"{f:.3f}" for f in fast), _geomean(ratios)]


def _geomean(ratios: Sequence[float]) -> str:
    if not ratios:
        return "-"
    return f"{math.exp(sum(map(math.log, ratios)) / len(ratios)):.3f}"


def _by_family(problems: Sequence[_Problem], plan: Plan) -> str:
    """A problem counts in each family whose operators it uses."""
    header = ["family", "problems"]
    checks = [(s, t) for s, t in plan.stages() if s in _TELLING[plan.reduced]]
    header += [f"{s} {t}".strip() for s, t in checks]
    header += [f"geomean over eager, {t}" for t in plan.targets if not plan.reduced]
    rows = []
    for family in in_order(p.families for p in problems):
        group = [p for p in problems if family in p.families]
        row = [family, str(len(group)), *(str(sum(p.passed(*c) for p in group)) for c in checks)]
        if not plan.reduced:
            fair = [p for p in group if not p.degenerate()]
            row += [
                _figures([p for p in fair if not p.degenerate(t)], t, stages.FLOAT32, "eager")[-1]
                for t in plan.targets
            ]
        rows.append(row)
    return _table(header, rows)


_TELLING: Mapping[bool, tuple[str, ...]] = {
    True: (stages.OP, stages.PROGRAM, stages.COMPILE, stages.NUMBERS),
    False: (stages.COMPILE, stages.KERNELBENCH, stages.FLOAT32, stages.NUMBERS),
}


def _degenerate(problems: Sequence[_Problem], plan: Plan) -> Iterator[str]:
    found = [
        (p, why)
        for p in problems
        if (why := next(filter(None, map(p.degenerate, plan.targets)), ""))
    ]
    if found:
        yield "## Degenerate problems"
        yield "A trivial kernel passes them: they count for correctness and in no speed figure."
        yield "\n".join(f"- {p.key} {p.name}: {why}" for p, why in found)


def _beyond_float32(problems: Sequence[_Problem], target: str) -> Iterator[str]:
    """Problems where PyTorch itself would not pass KernelBench's check against its float64."""
    rows = []
    for p in problems:
        found = p.lines.get((stages.NUMBERS, target))
        errors = found.detail.get("given", found.detail.get("outputs", {})) if found else {}
        beyond = {n: x for n, x in errors.items() if x.get("eager_allclose") is False}
        if beyond:
            name = max(beyond, key=lambda n: float(beyond[n]["eager_relative_error"]))
            x = beyond[name]
            pairs = [(x["relative_error"], x["max_abs_error"]),
                     (x["eager_relative_error"], x["eager_max_abs_error"])]  # fmt: skip
            rows.append([p.key, p.name, name, *(f"{a:.2g}, {b:.2g}" for a, b in pairs)])
    if rows:
        yield f"### Where PyTorch's own dtype is beyond the tolerance: {target}"
        yield (
            "KernelBench compares with PyTorch at the inputs' dtype. Here that is further from the "
            "module in float64 than the tolerance allows, so that an exact kernel may fail: errors "
            "relative and absolute, of the output where PyTorch's is largest."
        )
        yield _table(["problem", "name", "output", "ours", "PyTorch"], rows)


def _each(problems: Sequence[_Problem], target: str) -> Iterator[str]:
    """A line for each problem that was timed."""
    rows = []
    for p in problems:
        found = p.lines.get((stages.TIME, target))
        if found is None or not found.passed:
            continue
        micro = 1e6 * float(found.detail["timings"]["candidate"]["median"])
        ratios = [p.speedup(target, b) for b in _BASELINES]
        checks = [
            "yes" if p.passed(check, target) else "no"
            for check in (stages.KERNELBENCH, stages.FLOAT32, stages.NUMBERS)
        ]
        rows.append([p.key, p.name, f"{micro:.1f}",
                     *("-" if r is None else f"{r:.2f}" for r in ratios), *checks])  # fmt: skip
    if rows:
        yield f"## Each problem on {target}: measured"
        yield "Microseconds; how many times as fast as each baseline; which checks it passes."
        yield _table(["problem", "name", "time", *_BASELINES, stages.KERNELBENCH, stages.FLOAT32,
                      stages.NUMBERS], rows)  # fmt: skip


def _failures(problems: Sequence[_Problem]) -> str:
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for p in problems:
        for one in p.lines.values():
            if one.failed:
                where = f"{one.stage} {one.target}".strip()
                groups[where, _kind(one.reason)].append(p.key)
    if not groups:
        return "Nothing."
    order = Counter({k: len(v) for k, v in groups.items()}).most_common()
    rows = []
    for (where, reason), count in order:
        keys = groups[where, reason]
        more = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
        named = ", ".join(keys[:_MOST_NAMED]) + more
        rows.append([where, str(count), reason.replace("|", "\\|"), named])
    return _table(["stage", "problems", "reason", "which"], rows)


def _kind(reason: str) -> str:
    """The reason without what is only this problem's: numbers, names of values, lines."""
    text = reason.partition("; ")[0]
    text = re.sub(r"^line \d+: ", "", text)
    text = re.sub(r"@\w+|%\w+", "@...", text)
    text = re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", "#", text)
    text = re.sub(r"\[[#, ]*\]", "[...]", text)
    return text[:160]


def figures(results: Results, plan: Plan) -> dict[str, Any]:
    """How many problems there are, and how many passed each stage: for programs."""
    problems = _problems(results, plan)
    passed = {f"{s} {t}".strip(): sum(p.passed(s, t) for p in problems) for s, t in plan.stages()}
    return {"problems": len(problems), "passed": passed}
