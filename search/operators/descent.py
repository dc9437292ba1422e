"""Drafts that follow the analytic model: a short beam search over rewrites that runs nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from ke_ir.ir import Module
from search.candidates import key
from search.estimates import estimates, log_cost
from search.operators.offers import Offers, RewriteFault
from search.parts import Request

_WIDTH = 3
"""Candidates that are carried from one step to the next."""
_DRAWS = 6
"""Rewrites drawn for each of them."""


@dataclass(frozen=True)
class _State:
    cost: float
    offers: Offers
    labels: tuple[str, ...]


def descend(
    parent: Offers, request: Request, weight: Callable[[str], float], rng: random.Random
) -> tuple[Module, str] | None:
    """The candidate with the least estimate met within ``request.steps`` steps; None if none was.

    A step is taken even when it makes the estimate worse: fusing two loops often pays only once
    a third is gone. Faulty rewrites are passed over here.
    """

    def cost(module: Module) -> float:
        found = estimates(module, request.program, request.targets, request.dims)
        return log_cost(found, request.targets, request.weights)

    beam = [_State(cost(parent.module), parent, ())]
    seen = {key(parent.module)}
    best: _State | None = None
    for _ in range(request.steps):
        found: list[_State] = []
        for state in beam:
            drawn: set[str] = set()
            for _ in range(_DRAWS):
                rewrite = state.offers.draw(weight, drawn, rng)
                if rewrite is None:
                    break
                drawn.add(str(rewrite))
                try:
                    new = state.offers.apply(rewrite)
                except RewriteFault:
                    continue
                if new is None or (reached := key(new)) in seen:
                    continue
                seen.add(reached)
                found.append(_State(cost(new), Offers(new), (*state.labels, str(rewrite))))
        if not found:
            break
        found.sort(key=lambda s: s.cost)
        beam = found[:_WIDTH]
        if best is None or beam[0].cost < best.cost:
            best = beam[0]
    return (best.offers.module, "; ".join(best.labels)) if best is not None else None
