"""The built-in operator: chooses among the rewrites that apply."""

from __future__ import annotations

import random
import traceback
from collections.abc import Sequence
from functools import lru_cache

from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.rewrites import NoMatch, Rewrite, all_rewrites
from search.candidates import key, text_of
from search.operators.diagnosis import relevance
from search.parts import Proposal, Proposals, Request

_ATTEMPTS = 4
"""Draws for each child asked for, before the answer is shorter than that."""


class Rules:
    """Draws rewrites at random, weighted by the diagnosis and by how relatives fared.

    The kind of rewrite is drawn first and then one of its instances, so that a rewrite with many
    instances does not crowd out the others.
    """

    in_worker = True

    def propose(self, request: Request) -> Proposals:
        """Distinct children, none of them tried before."""
        rng = random.Random(request.seed)
        parent = parse(request.text)
        weights = _Weights(request)
        seen, tried = {key(parent)}, set(request.tried)
        out: list[Proposal] = []
        for _ in range(request.count * _ATTEMPTS):
            if len(out) == request.count:
                break
            try:
                found = _walk(parent, request, weights, tried, rng)
            except RewriteFault as fault:
                if fault.label not in tried:
                    tried.add(fault.label)
                    out.append(Proposal(request.text, fault.label, error=str(fault)))
                continue
            if found is None:
                continue
            module, label = found
            tried.add(label)
            if (k := key(module)) not in seen:
                seen.add(k)
                out.append(Proposal(text_of(module), label))
        left = any(str(r) not in tried for r in _instances(request.text))
        return Proposals(tuple(out), exhausted=not left)


class RewriteFault(Exception):
    """A rewrite failed where it should have answered. It costs one candidate, and is recorded."""

    def __init__(self, label: str, error: Exception) -> None:
        super().__init__(f"rewrite {label} is at fault: {type(error).__name__}: {error}")
        self.label = label


class _Weights:
    """How likely each kind of rewrite is to be drawn."""

    def __init__(self, request: Request) -> None:
        self.guided, self.bounds = request.guided, request.bounds
        self.factors: dict[str, float] = {}
        for label, gain in request.feedback:
            for name in {part.partition("(")[0].strip() for part in label.split(";")}:
                factor = 0.7 if gain is None or gain < 0 else 1.5 if gain > 0 else 0.9
                self.factors[name] = min(4.0, max(0.2, self.factors.get(name, 1.0) * factor))

    def __call__(self, name: str) -> float:
        if not self.guided:
            return 1.0
        return relevance(name, self.bounds) * self.factors.get(name, 1.0)


def _walk(
    parent: Module, request: Request, weights: _Weights, tried: set[str], rng: random.Random
) -> tuple[Module, str] | None:
    """Up to ``steps`` rewrites in a row; None when the way was closed or is known."""
    module, seen = parent, {key(parent)}
    labels: list[str] = []
    for step in range(request.steps):
        text = request.text if step == 0 else text_of(module)
        chosen = _choose(_instances(text), weights, tried if request.steps == 1 else set(), rng)
        if chosen is None:
            break
        try:
            new = chosen.apply(module)
        except Exception as error:
            raise RewriteFault("; ".join([*labels, str(chosen)]), error) from error
        if isinstance(new, NoMatch):
            break
        if request.steps > 1 and key(new) in seen:
            continue  # a step that only undoes what was done
        module = new
        seen.add(key(new))
        labels.append(str(chosen))
    label = "; ".join(labels)
    return (module, label) if labels and label not in tried else None


def _choose(
    instances: Sequence[Rewrite], weights: _Weights, without: set[str], rng: random.Random
) -> Rewrite | None:
    by_name: dict[str, list[Rewrite]] = {}
    for r in instances:
        if not without or str(r) not in without:
            by_name.setdefault(r.name, []).append(r)
    if not by_name:
        return None
    if not weights.guided:
        return rng.choice([r for group in by_name.values() for r in group])
    names = list(by_name)
    (name,) = rng.choices(names, [weights(n) for n in names])
    return rng.choice(by_name[name])


@lru_cache(maxsize=256)
def _instances(text: str) -> tuple[Rewrite, ...]:
    """All that apply; a kind of rewrite that cannot list its own offers nothing."""
    module, found = parse(text), []
    for cls in all_rewrites():
        try:
            found += list(cls.applicable(module))
        except Exception:
            traceback.print_exc()  # into the worker's log
    return tuple(found)
