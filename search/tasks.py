"""What worker processes do for a search beside evaluation: propose, screen, and tune."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ke_ir.diagnostics import IRError
from ke_ir.parser import parse
from ke_ir.rewrites import NoMatch, RewriteTextError, apply_text
from ke_ir.verify import check
from search.candidates import features, key, text_of
from search.estimates import estimates
from search.parts import OPERATORS, Proposal, Request, find_part
from targets.base import TargetError
from targets.registry import find_target

if TYPE_CHECKING:
    from ke_ir.ir import Module, Program
    from targets.base import Knobs, Target

Ignored = Callable[[Any], None]

_MOST_SETTINGS = 64
"""Knob settings that successive halving begins with."""


def propose(task: Mapping[str, Any], _: Ignored) -> dict[str, Any]:
    """An operator's proposals, each screened. ``task``: ``operator``, ``request``."""
    request: Request = task["request"]
    found = find_part(OPERATORS, task["operator"])().propose(request)
    screened = [
        screen_one(p.text, request.program, request.targets, request.dims) for p in found.items
    ]
    return {"items": found.items, "exhausted": found.exhausted, "screened": screened}


def replay(task: Mapping[str, Any], _: Ignored) -> dict[str, Any]:
    """Chains of rewrites applied to a root as far as they go. ``task``: as for ``screen``, with
    the root's ``text`` and ``chains``.
    """
    items = []
    for chain in task["chains"]:
        module, done = parse(task["text"]), []
        for text in chain:
            try:
                new = apply_text(text, module)
            except RewriteTextError:
                continue
            if not isinstance(new, NoMatch):
                module = new
                done.append(text)
        if done:
            items.append(Proposal(text_of(module), "; ".join(done)))
    texts = [p.text for p in items]
    return {"items": items, "screened": screen({**task, "texts": texts}, _)}


def screen(task: Mapping[str, Any], _: Ignored) -> list[dict[str, Any]]:
    """``task``: ``texts``, ``program``, ``targets``, ``dims``."""
    return [
        screen_one(text, task["program"], task["targets"], task["dims"]) for text in task["texts"]
    ]


def screen_one(
    text: str, program: str, targets: Sequence[str], dims: Mapping[str, int]
) -> dict[str, Any]:
    """Parse and verify, and what the analytic models say.

    Gives ``error`` (not valid KE-IR), or ``key``, canonical ``text``, ``features``
    and ``estimates`` by target (one that refuses is left out).
    """
    try:
        module = check(parse(text))
    except IRError as error:
        return {"error": str(error.diagnostics[0].message)}
    if program not in module.programs:
        return {"error": f"there is no kernel or program @{program}"}
    return {
        "key": key(module),
        "text": text_of(module),
        "features": features(module, program),
        "estimates": estimates(module, program, targets, dims),
    }


def tune(task: Mapping[str, Any], progress: Ignored) -> dict[str, Any]:
    """The best knobs of one target, by successive halving.

    All settings are ranked by the analytic model, half of them timed at reduced run-time sizes,
    and half of those at full size. ``task``: ``text``, ``program``, ``target``, ``dims``. Gives
    ``knobs``, ``seconds``, ``kind`` and the number of ``trials``; knobs None when nothing ran.
    """
    module = parse(task["text"])
    entry = module.programs[task["program"]]
    target = find_target(task["target"])
    sizes = entry.sizes(task["dims"])
    settings = _settings(target, module, entry)
    total = len(settings)
    keep = max(2, math.ceil(total / 2))

    def estimated(knobs: Knobs) -> float:
        return target.estimate(module, entry, knobs, sizes).seconds

    ranked = _ranked(settings, estimated)
    # A model that does not see the knobs cannot rank them: then all go on.
    telling = len({seconds for seconds, _ in ranked}) > 1
    rung = [knobs for _, knobs in (ranked[:keep] if telling else ranked[: _MOST_SETTINGS // 4])]
    small = _reduced(entry, sizes)
    if small != sizes and len(rung) > 2:
        timed = _ranked(rung, lambda k: target.time(module, entry, k, small).seconds)
        total += len(timed)
        rung = [knobs for _, knobs in timed[: math.ceil(len(timed) / 2)]]
    kinds: list[str] = []

    def full(knobs: Knobs) -> float:
        timing = target.time(module, entry, knobs, sizes)
        kinds.append(timing.kind.value)
        return timing.seconds

    last = _ranked(rung, full)
    if not last:
        return {"knobs": None, "trials": total}
    seconds, knobs = last[0]
    return {
        "knobs": dict(knobs), "seconds": seconds, "kind": kinds[0], "trials": total + len(last)
    }  # fmt: skip


def _settings(target: Target, module: Module, entry: Program) -> list[Knobs]:
    """The default first, then those that differ from it in one knob, in two, and so on."""
    space = target.knobs(entry, module)
    names = list(space)
    indices = itertools.product(*(range(len(space[n])) for n in names))
    ordered = sorted(indices, key=lambda at: (sum(1 for i in at if i), at))
    return [
        {n: space[n][i] for n, i in zip(names, at, strict=True)} for at in ordered[:_MOST_SETTINGS]
    ]


def _ranked(
    settings: Sequence[Knobs], seconds: Callable[[Knobs], float]
) -> list[tuple[float, Knobs]]:
    """Fastest first, ties in the order given; settings that the target refuses are left out."""
    found = []
    for knobs in settings:
        try:
            found.append((seconds(knobs), knobs))
        except TargetError:
            continue
    return sorted(found, key=lambda pair: pair[0])


def _reduced(entry: Program, sizes: Mapping[str, int]) -> dict[str, int]:
    """An eighth of every run-time size: what is compiled stays the same."""
    given = {
        d.name: max(d.low or 1, sizes[d.name] // 8) if d.is_range else sizes[d.name]
        for d in entry.dims
    }
    return entry.sizes(given)
