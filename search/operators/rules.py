"""The built-in operator: chooses among the rewrites that apply."""

from __future__ import annotations

import random
import traceback
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
        # Only an answer that is too short can mean that nothing is left.
        left = len(out) == request.count or any(
            str(r) not in tried for name in _names() for r in _instances(request.text, name)
        )
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
        chosen = _choose(text, weights, tried if request.steps == 1 else set(), rng)
        if chosen is None:
            break
        try:
            new = chosen.apply(module)
        except Exception as error:
            raise RewriteFault("; ".join([*labels, str(chosen)]), error) from error
        if isinstance(new, NoMatch):
            break
        if request.steps > 1:
            if (reached := key(new)) in seen:
                continue  # a step that only undoes what was done
            seen.add(reached)
        module = new
        labels.append(str(chosen))
    label = "; ".join(labels)
    return (module, label) if labels and label not in tried else None


def _choose(text: str, weights: _Weights, without: set[str], rng: random.Random) -> Rewrite | None:
    """A kind by weight, then one of its instances; kinds without any are drawn once only."""

    def offered(name: str) -> list[Rewrite]:
        return [r for r in _instances(text, name) if str(r) not in without]

    if not weights.guided:
        listed = [r for name in _names() for r in offered(name)]
        return rng.choice(listed) if listed else None
    names = list(_names())
    while names:
        (name,) = rng.choices(names, [weights(n) for n in names])
        if found := offered(name):
            return rng.choice(found)
        names.remove(name)
    return None


def _names() -> tuple[str, ...]:
    return tuple(cls.name for cls in all_rewrites())


@lru_cache(maxsize=256)
def _parsed(text: str) -> Module:
    return parse(text)


@lru_cache(maxsize=4096)
def _instances(text: str, name: str) -> tuple[Rewrite, ...]:
    """Those of one kind that apply; a kind that cannot list its own offers nothing."""
    (cls,) = (cls for cls in all_rewrites() if cls.name == name)
    try:
        return tuple(cls.applicable(_parsed(text)))
    except Exception:
        traceback.print_exc()  # into the worker's log
        return ()
