"""Which nodes of an op share a kernel.

A kernel is parallel over the ``axes`` of its group. Reductions over those axes, what follows from
them element by element, and outputs with further indices (looped over inside) go together.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ke_ir.derive.node import Node, references
from ke_ir.expr import Expr, Range, Var

ENOUGH = 512
"""Programs below which an output's further indices are not looped over inside."""
COLUMNS = 128
"""Results of a program that reads rows and reduces along columns."""
NUMBERS = 64
"""Single numbers that one kernel computes."""
FEW = 1 << 14
"""Elements that one program may write in a loop, however few programs there are."""


@dataclass
class Group:
    """The nodes of one kernel, with the axes' names for their indices.

    The members of a group with scans or with states run in one loop over ``along``; what has no
    such index follows after it.
    """

    axes: tuple[Range, ...]
    members: list[Node] = field(default_factory=list)
    along: Range | None = None

    @property
    def names(self) -> set[str]:
        return {n.name for n in self.members}

    def extra(self, node: Node) -> tuple[Range, ...]:
        """Indices of a member that are not axes."""
        own = {r.name for r in self.axes}
        return tuple(r for r in node.indices if r.name not in own)


def form_groups(
    nodes: Sequence[Node], extent: Callable[[Range], int | None], heavy: Container[str]
) -> list[Group]:
    """Groups in an order in which each comes after those whose values it reads.

    ``heavy`` names the nodes for a matrix unit: nothing loops over further indices beside them.
    """
    groups: list[Group] = []
    home: dict[str, int] = {}
    for node in nodes:
        needs = [home[r.tensor] for r in references(node) if r.tensor in home]
        mapping: dict[str, str] = {}
        partner = _partner(node, groups)
        at = _place(node, groups, max(needs, default=-1), extent, heavy)
        if partner is not None:
            at = len(groups) - 1
            mapping = _by_name(node, partner)
        elif at is None:
            groups.append(_new_group(node))
            at = len(groups) - 1
        else:
            mapping = _mapping(node, groups[at]) or {}
        groups[at].members.append(node.renamed(mapping))
        home[node.name] = at
    return groups


def _new_group(node: Node) -> Group:
    loop = node.scan or node.state
    if loop is None:
        return Group(node.indices)
    axes = tuple(r for r in node.indices if r.name != loop.along)
    return Group(axes, along=next(r for r in node.indices if r.name == loop.along))


def _partner(node: Node, groups: Sequence[Group]) -> Node | None:
    """The first node of the recurrence that a node belongs to, if that is in the last group."""
    first = groups[-1].members[0] if groups else None
    if first is None or node.state is None or first.name not in node.state.together:
        return None
    return first


def _by_name(node: Node, first: Node) -> dict[str, str]:
    """The indices of a recurrence's equation, for those of another that are called the same."""
    plain = {r.name.split("'")[0]: r.name for r in first.indices}
    return {r.name: plain[r.name.split("'")[0]] for r in node.indices}


def _place(
    node: Node,
    groups: list[Group],
    latest: int,
    extent: Callable[[Range], int | None],
    heavy: Container[str],
) -> int | None:
    """The group that a node joins; None for a new one. It may not stand before ``latest``."""
    for at in range(len(groups) - 1, max(latest, 0) - 1, -1):
        g = groups[at]
        # What is scattered is complete only when all programs have ended.
        apart = any(m.scatter is not None for m in g.members)
        apart |= node.scatter is not None and g.along is not None
        mapping = None if apart else _mapping(node, g)
        if mapping is None:
            continue
        uses = at == latest
        if g.along is not None or node.scan is not None or node.state is not None:
            if _scans_with(node, g, mapping, uses):
                return at
            continue
        if not uses and not _related(node, g) and not _single_numbers(node, g):
            continue
        if len(node.indices) == len(g.axes):
            return at
        if node.scatter is not None:
            continue
        busy = any(n in heavy for n in g.names)
        if not node.is_reduction and uses and not busy and _worth_looping(node, g, mapping, extent):
            return at
    return None


def _scans_with(node: Node, g: Group, mapping: Mapping[str, str], uses: bool) -> bool:
    """True if a node can run in the loop of a group with scans or states.

    It follows from them element by element, or scans in the same direction and reads none of them.
    """
    first = g.members[0].scan
    if g.along is None or node.state is not None or len(mapping) != len(node.indices):
        return False
    if len(node.indices) == len(g.axes):
        return uses and not node.is_reduction and node.scan is None
    if node.scan is None:
        return uses and not node.is_reduction
    if first is None:
        return False
    same = mapping[node.scan.along] == g.along.name and node.scan.reverse == first.reverse
    return same and not uses


def _worth_looping(
    node: Node, g: Group, mapping: Mapping[str, str], extent: Callable[[Range], int | None]
) -> bool:
    """An output over more than the axes fits in if enough programs remain, or little is done."""
    programs = inside = 1
    for r in g.axes:
        programs *= extent(r) or 1
    for r in node.indices:
        if r.name not in mapping:
            inside *= extent(r) or FEW
    if node.indices[-1].name in mapping:  # memory lies along an axis, and tiles do
        columns = min(COLUMNS, extent(node.indices[-1]) or COLUMNS)
        programs, inside = programs // columns, inside * columns
    return programs >= ENOUGH or inside <= FEW


def _related(node: Node, g: Group) -> bool:
    """True if a member that does the same kind of work reads one of the node's tensors."""
    mine = {r.tensor for r in references(node)}
    return any(
        m.is_reduction == node.is_reduction
        and len(m.indices) == len(node.indices)
        and _inner(m) == _inner(node)
        and mine & {r.tensor for r in references(m)}
        for m in g.members
    )


def _single_numbers(node: Node, g: Group) -> bool:
    """True if all there is to do is some numbers, each for itself, as counters of batches are."""
    few = len(g.members) < NUMBERS
    return few and not any(m.indices or m.is_reduction for m in (node, *g.members))


def _inner(n: Node) -> list[Expr | None]:
    return [r.hi for r in n.inner]


def _in_loop(member: Node, g: Group) -> bool:
    """Whether a member has a value at each step of its group's loop."""
    return g.along is not None and g.along.name in member.index_names


def _mapping(node: Node, g: Group) -> dict[str, str] | None:
    """The node's index for each axis, so that every member that it reads is read in place."""
    reads = [r for r in references(node) if r.tensor in g.names]
    by_name = {m.name: m for m in g.members}
    ends = {r.tensor == node.after or not _in_loop(by_name[r.tensor], g) for r in reads}
    if len(ends) > 1:
        return None
    loop = () if g.along is None or ends == {True} else (g.along,)
    axes = {a.name: a for a in (*g.axes, *loop)}
    out: dict[str, str] = {}
    mine = {r.name: r for r in node.indices}
    for ref in reads:
        target = by_name[ref.tensor]
        if ref.tensor == node.after:
            ref = replace(ref, indices=tuple(Var(r.name) for r in node.indices))
            others = tuple(r for r in target.indices if r.name in {a.name for a in g.axes})
            target = replace(target, indices=others)
        if g.along is None and g.extra(target):
            return None
        for sub, axis in zip(ref.indices, target.indices, strict=True):
            if not isinstance(sub, Var) or sub.name not in mine:
                return None
            if out.setdefault(sub.name, axis.name) != axis.name:
                return None
    if not reads:
        if len(node.indices) != len(axes):
            return None
        own = g.axes if g.along is None else g.members[0].indices
        out = {r.name: a.name for r, a in zip(node.indices, own, strict=True)}
    if set(out.values()) != set(axes) or len(set(out.values())) != len(out):
        return None
    same = all(mine[i].hi == axes[a].hi for i, a in out.items())
    return out if same else None
