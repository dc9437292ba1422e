"""Warm starts: what did well on similar ops before, as chains of rewrites to try first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ke_ir.diagnostics import IRError
from ke_ir.hashing import structural_hash
from ke_ir.ir import Module, OpDef
from ke_ir.parser import parse
from search.config import Config

if TYPE_CHECKING:
    from search.store import Store

_MOST = 4


def similarity(a: OpDef, b: OpDef) -> float:
    """1 for the same op, 0 for one that has nothing in common.

    Half for the same equations, the rest for dtypes, targets' names aside, and near sizes.
    """
    if [str(e) for e in a.equations] != [str(e) for e in b.equations]:
        return 0.0
    dtypes = [p.type.dtype for p in (*a.inputs, *a.outputs)]
    others = [p.type.dtype for p in (*b.inputs, *b.outputs)]
    same = sum(x is y for x, y in zip(dtypes, others, strict=False)) / max(1, len(dtypes))
    left, right = a.sizes(), b.sizes()
    near = [1.0 / (1.0 + abs(math.log2(left[d] / right[d]))) for d in left if right.get(d, 0) > 0]
    return 0.5 + 0.25 * same + 0.25 * (sum(near) / len(near) if near else 0.0)


def similar_chains(
    store: Store, module: Module, program: str, targets: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    """The lineages of the best nodes of earlier runs on similar ops for one of these targets.

    Most similar first. Each is a tuple of rewrites in order, to be replayed on the new root as
    far as they apply.
    """
    op = module.ops.get(program)
    if op is None:
        return ()
    found: list[tuple[float, str, tuple[str, ...]]] = []
    for record in store.runs():
        config = Config.from_dict(record.config)
        shared = [t for t in config.targets if t in targets]
        if not shared:
            continue
        try:
            other = parse(store.artifacts.text(config.text)).ops.get(config.program)
        except IRError:
            continue
        alike = similarity(op, other) if other is not None else 0.0
        if alike <= 0.0:
            continue
        graph = store.graph(record.id)
        for target in shared:
            best = graph.best(target)
            if best is None:
                continue
            edges = [graph.lineage_edge(k) for k in graph.lineage(best.key)[1:]]
            chain = tuple(p for e in edges if e.kind == "rewrite" for p in e.label.split("; "))
            if chain:
                found.append((-alike, structural_hash(other) if other else "", chain))
    ordered = sorted(found)
    return tuple(dict.fromkeys(chain for _, _, chain in ordered))[:_MOST]
