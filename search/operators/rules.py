"""The built-in operator: chooses among the rewrites that apply."""

from __future__ import annotations

import random

from ke_ir.ir import Module
from search.candidates import key, text_of
from search.operators.descent import descend
from search.operators.diagnosis import relevance
from search.operators.offers import Offers, RewriteFault, offers_of
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
        parent = offers_of(request.text)
        weights = _Weights(request)
        seen, tried = {key(parent.module)}, set(request.tried)
        out: list[Proposal] = []
        for _ in range(request.count * _ATTEMPTS):
            if len(out) == request.count:
                break
            try:
                if request.descend:
                    found = descend(parent, request, weights, rng)
                else:
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
        left = len(out) == request.count or bool(parent.left(tried))
        return Proposals(tuple(out), exhausted=not left)


class _Weights:
    """How likely each kind of rewrite is to be drawn."""

    def __init__(self, request: Request) -> None:
        self.guided, self.bounds = request.guided, request.bounds
        self.factors: dict[str, float] = {}
        for r in request.relatives:
            gain = r.gain
            for name in {part.partition("(")[0].strip() for part in r.label.split(";")}:
                factor = 0.7 if gain is None or gain < 0 else 1.5 if gain > 0 else 0.9
                self.factors[name] = min(4.0, max(0.2, self.factors.get(name, 1.0) * factor))

    def __call__(self, name: str) -> float:
        if not self.guided:
            return 1.0
        return relevance(name, self.bounds) * self.factors.get(name, 1.0)


def _walk(
    parent: Offers, request: Request, weights: _Weights, tried: set[str], rng: random.Random
) -> tuple[Module, str] | None:
    """Up to ``steps`` rewrites in a row; None when the way was closed or is known."""
    offers, seen = parent, {key(parent.module)}
    labels: list[str] = []
    for _ in range(request.steps):
        without = tried if request.steps == 1 else set()
        if weights.guided:
            chosen = offers.draw(weights, without, rng)
        else:
            left = offers.left(without)
            chosen = rng.choice(left) if left else None
        if chosen is None:
            break
        module = offers.apply(chosen, labels)
        if module is None:
            break
        if request.steps > 1:
            if (reached := key(module)) in seen:
                continue  # a step that only undoes what was done
            seen.add(reached)
        offers = Offers(module)
        labels.append(str(chosen))
    label = "; ".join(labels)
    return (offers.module, label) if labels and label not in tried else None
