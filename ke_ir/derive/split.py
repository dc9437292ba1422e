"""Two-level reductions: where few programs would reduce much, parts are reduced first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from ke_ir.derive.groups import COLUMNS
from ke_ir.derive.node import Node, hi_of, is_dense
from ke_ir.derive.tiles import below, power
from ke_ir.expr import Bin, Call, Expr, Num, Range, Reduce, Ref, Var, variables, walk

SPLITTABLE = ("sum", "prod", "max", "min", "any", "all")
FEW_PROGRAMS = 256
LARGE = 1 << 16
"""Elements for each program from which splitting pays for a second kernel."""
DEEP = 1 << 19
"""Terms from which adding them tile after tile loses accuracy, however many sums there are."""
DEEP_PART = 1 << 16
TILE = 1 << 12
"""Elements of a contraction's result that one program computes."""
PROGRAMS = 1024
"""Programs that keep all units of a large GPU busy."""
LEAST = 1 << 12
"""Elements that a part has at least."""
ENOUGH, LEAST_TERMS = 128, 512
"""Programs of a contraction below which its sum is split, and terms that each part has at least."""

Extent = Callable[[Range], int | None]


def split_large(
    nodes: list[Node], extent: Extent, contractions: Mapping[str, object]
) -> dict[str, list[Node]]:
    """What to put in place of the reductions that need to be split, by name."""
    made = {n.name: split(n, extent, TILE if n.name in contractions else 1) for n in nodes}
    return {name: m for name, m in made.items() if m is not None}


def split(node: Node, extent: Extent, tile: int = 1) -> list[Node] | None:
    """The partial and the final reduction, or None if one kernel is as good.

    ``tile``: how many elements of the result one program computes.
    """
    e = node.expr
    if not isinstance(e, Reduce) or e.kind not in SPLITTABLE:
        return None
    programs = terms = 1
    for r in node.indices:
        programs *= extent(r) or 1
    columns = columns_of(node, extent) if tile == 1 else 1
    programs = -(-programs // (tile * columns))
    for r in e.ranges:
        terms *= extent(r) or 1
    few = programs < FEW_PROGRAMS
    product = tile > 1 and programs < ENOUGH and terms < LARGE and _of_tensors(e.body)
    if terms < (4 * LEAST_TERMS if product else LARGE // columns if few else DEEP):
        return None
    least = LEAST_TERMS if product else LEAST // columns if few else DEEP_PART
    most = 2 * ENOUGH // programs if product else -(-PROGRAMS // programs) if few else PROGRAMS
    parts, ranges = _in_parts(e.ranges, extent, min(most, terms // least), least)
    if not parts:
        return None
    name = f"{node.name}_parts"
    place = tuple(Var(r.name) for r in (*parts, *node.indices))
    inner = Node(name, (*parts, *node.indices), replace(e, ranges=ranges), origin=node.origin)
    return [inner, replace(node, expr=Reduce(e.kind, parts, Ref(name, place)))]


def _in_parts(
    ranges: tuple[Range, ...], extent: Extent, wanted: int, least: int
) -> tuple[tuple[Range, ...], tuple[Range, ...]]:
    """The indices that count the parts, ``wanted`` or somewhat more, and the ranges of one part.

    An outer range that gives too few parts counts them itself, and the next one is split as well.
    """
    outer: list[Range] = []
    for at, r in enumerate(ranges):
        n, rest = extent(r), ranges[at + 1 :]
        if n is None or not is_dense(r) or wanted < 2:
            return tuple(outer), ranges[at:]
        if n > wanted or not rest:
            of_one = math.prod(extent(x) or 1 for x in rest)
            chunk = max(below(n // wanted), power(-(-least // of_one)))
            if chunk >= n:
                return tuple(outer), ranges[at:]
            part, own = chunks(r, chunk)
            return (*outer, part), (own, *rest)
        outer.append(r)
        wanted //= n
    return tuple(outer), ()


def chunks(r: Range, chunk: int) -> tuple[Range, Range]:
    """The index that counts the chunks of a range, and the range of one chunk."""
    hi = hi_of(r)
    part = Range("part" + r.name, Num(0), _parts(hi, chunk))
    start = Bin("*", Var(part.name), Num(chunk))
    stop: Expr = Bin("+", start, Num(chunk))
    if not isinstance(hi, Num) or int(hi.value) % chunk:
        stop = Call("min", (stop, hi))
    return part, Range(r.name, start, stop)


def columns_of(node: Node, extent: Extent) -> int:
    """How many results one program computes where memory lies along them."""
    sizes = {r.name: extent(r) or 1 for r in node.indices}
    last = [n.indices[-1] for n in walk(node.expr) if isinstance(n, Ref) and n.indices]
    if any(v not in sizes for i in last for v in variables(i)):
        return 1
    return min(COLUMNS, max((sizes[v] for i in last for v in variables(i)), default=1))


def _of_tensors(e: Expr) -> bool:
    """Whether a product's factors are elements of tensors.

    What is computed first (the weights of attention) may yet be made in the same loop.
    """
    return isinstance(e, Bin) and e.op == "*" and all(isinstance(x, Ref) for x in (e.lhs, e.rhs))


def _parts(hi: Expr, chunk: int) -> Bin | Num:
    if isinstance(hi, Num):
        return Num(-(-int(hi.value) // chunk))
    return Bin("//", Bin("+", hi, Num(chunk - 1)), Num(chunk))
