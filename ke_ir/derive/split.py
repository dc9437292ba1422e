"""Two-level reductions: where few programs would reduce much, parts are reduced first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ke_ir.derive.normal import Node, hi_of, is_dense
from ke_ir.expr import Bin, Call, Expr, Num, Range, Reduce, Ref, Var

SPLITTABLE = ("sum", "prod", "max", "min", "any", "all")
FEW_PROGRAMS = 256
LARGE = 1 << 16
"""Elements for each program from which splitting pays for a second kernel."""
DEEP = 1 << 19
"""Terms from which adding them tile after tile loses accuracy, however many sums there are."""
DEEP_PART = 1 << 16
TILE = 1 << 12
"""Elements of a contraction's result that one program computes."""
PARTS = 512
LEAST = 1 << 12
"""Elements that a part has at least."""
ENOUGH, LEAST_TERMS = 128, 512
"""Programs of a contraction below which its sum is split, and terms that each part has at least."""


def split_large(
    nodes: list[Node], extent: Callable[[Range], int | None], contractions: Mapping[str, object]
) -> list[Node]:
    """Split the reductions that need it."""
    out: list[Node] = []
    for n in nodes:
        out += split(n, extent, TILE if n.name in contractions else 1) or [n]
    return out


def split(node: Node, extent: Callable[[Range], int | None], tile: int = 1) -> list[Node] | None:
    """The partial and the final reduction, or None if one kernel is as good.

    ``tile``: how many elements of the result one program computes.
    """
    e = node.expr
    if not isinstance(e, Reduce) or e.kind not in SPLITTABLE:
        return None
    programs = terms = 1
    for r in node.indices:
        programs *= extent(r) or 1
    programs = -(-programs // tile)
    for r in e.ranges:
        terms *= extent(r) or 1
    first = e.ranges[0]
    n = extent(first)
    few = programs < FEW_PROGRAMS
    product = tile > 1 and programs < ENOUGH and terms < LARGE and _of_tensors(e.body)
    enough = 4 * LEAST_TERMS if product else LARGE if few else DEEP
    if terms < enough or n is None or not is_dense(first):
        return None
    least = LEAST_TERMS if product else LEAST if few else DEEP_PART
    most = 2 * ENOUGH // programs if product else PARTS
    chunk = max(-(-n // most), -(-least * n // terms), 1)
    chunk = 1 << (chunk - 1).bit_length()
    if chunk >= n:
        return None
    hi = hi_of(first)
    part = Range("part" + first.name, Num(0), _parts(hi, chunk))
    start = Bin("*", Var(part.name), Num(chunk))
    stop: Expr = Bin("+", start, Num(chunk))
    if not isinstance(hi, Num) or int(hi.value) % chunk:
        stop = Call("min", (stop, hi))
    inner = replace(e, ranges=(Range(first.name, start, stop), *e.ranges[1:]))
    name = f"{node.name}_parts"
    final = Reduce(e.kind, (part,), Ref(name, tuple(Var(r.name) for r in (part, *node.indices))))
    parts = Node(name, (part, *node.indices), inner, origin=node.origin)
    return [parts, replace(node, expr=final)]


def _of_tensors(e: Expr) -> bool:
    """Whether a product's factors are elements of tensors.

    What is computed first (the weights of attention) may yet be made in the same loop.
    """
    return isinstance(e, Bin) and e.op == "*" and all(isinstance(x, Ref) for x in (e.lhs, e.rhs))


def _parts(hi: Expr, chunk: int) -> Bin | Num:
    if isinstance(hi, Num):
        return Num(-(-int(hi.value) // chunk))
    return Bin("//", Bin("+", hi, Num(chunk - 1)), Num(chunk))
