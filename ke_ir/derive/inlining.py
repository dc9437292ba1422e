"""Which pointwise intermediates are written into their uses, and which are nodes of their own."""

from __future__ import annotations

from ke_ir.expr import Bin, Expr, Reduce, Ref, children, variables, walk
from ke_ir.ir import OpDef

LARGEST = 1000
DEEPEST = 60
"""Nodes and levels of an expression above which a pointwise intermediate is a node of its own."""
SHARED = 48
"""As many nodes are enough where it would be computed again and again: read in several places, or
by a reduction."""


def is_large(e: Expr, again: bool) -> bool:
    """True for expressions that are better computed once than written into each use.

    ``again``: they would be computed several times.
    """
    size = sum(1 for _ in walk(e))
    return size > (SHARED if again else LARGEST) or depth(e) > DEEPEST


def read_repeatedly(op: OpDef) -> set[str]:
    """Tensors that an op reads in several equations, or in a reduction."""
    seen: set[str] = set()
    out: set[str] = set()
    for eq in op.equations:
        here = {n.tensor for n in walk(eq.rhs) if isinstance(n, Ref)}
        inside = {
            n.tensor
            for r in walk(eq.rhs) if isinstance(r, Reduce)
            for n in walk(r) if isinstance(n, Ref)
        }  # fmt: skip
        out |= inside | (here & seen)
        seen |= here
    return out


def read_through_windows(op: OpDef) -> set[str]:
    """Tensors whose elements are factors of several products, each at another place of a window.

    So a convolution reads its image: once for each tap, and again for each tile of channels.
    """
    sums = [
        r
        for eq in op.equations for r in walk(eq.rhs)
        if isinstance(r, Reduce) and r.kind == "sum"
        and isinstance(r.body, Bin) and r.body.op == "*"
    ]  # fmt: skip
    return {
        n.tensor
        for r in sums for n in walk(r.body)
        if isinstance(n, Ref) and any(in_window(i, {x.name for x in r.ranges}) for i in n.indices)
    }  # fmt: skip


def in_window(index: Expr, summed: set[str]) -> bool:
    """Whether an index is made of one that is summed over and of another."""
    names = set(variables(index))
    return bool(names & summed and names - summed)


def is_costly(e: Expr) -> bool:
    """True for what is better stored once than computed at each place of a window."""
    return len({n.tensor for n in walk(e) if isinstance(n, Ref)}) > 1


def depth(e: Expr) -> int:
    return 1 + max(map(depth, children(e)), default=0)
