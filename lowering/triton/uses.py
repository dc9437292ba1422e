"""Where values are used: what may be written in place, and which variables a loop may reuse."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from ke_ir.expr import variables
from ke_ir.ir import For, Kernel, Parallel, Yield
from ke_ir.ops.arith import Cast
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.ops.memory import Load
from ke_ir.ops.shape import Expand


@dataclass
class _Definition:
    """``block`` is the statement list that defines the value; ``users`` all its uses."""

    block: int
    users: list[tuple[Stmt, int, str]] = field(default_factory=list)


class Uses:
    """Uses of every value of a kernel. A definition is known by its statement (and place)."""

    def __init__(self, kernel: Kernel) -> None:
        self._found: dict[tuple[int, int], _Definition] = {}
        self._blocks = 0
        self._walk(kernel.body, {})

    def _walk(self, body: Iterable[Stmt], names: dict[str, _Definition]) -> None:
        self._blocks += 1
        block = self._blocks
        names = dict(names)

        def use(values: Iterable[Operand], s: Stmt, how: str) -> None:
            for v in values:
                if isinstance(v, str) and v in names:
                    names[v].users.append((s, block, how))

        def new(s: Stmt, place: int, name: str, where: int) -> None:
            # One object may stand in two places: its uses are then counted together.
            names[name] = self._found.setdefault((id(s), place), _Definition(where))

        for s in body:
            if isinstance(s, Op):
                use(s.operands(), s, "operand")
                for c in s.coordinates():
                    use(variables(c), s, "coordinate")
                if s.result is not None:
                    new(s, 0, s.result, block)
            elif isinstance(s, Yield):
                use(s.values, s, "yield")
            elif isinstance(s, For | Parallel):
                loops = (s.var,) if isinstance(s, For) else s.vars
                for v in loops:
                    use([*variables(v.lo), *variables(v.hi)], s, "bound")
                inner = dict(names)
                if isinstance(s, For):
                    use([init for _, init in s.carries], s, "carry")
                    for i, (name, _) in enumerate(s.carries):
                        inner[name] = _Definition(self._blocks + 1)
                        self._found[id(s), -1 - i] = inner[name]
                self._walk(s.body, inner)
                if isinstance(s, For):
                    for i, r in enumerate(s.results):
                        new(s, i, r, block)

    def users(self, s: Stmt, place: int = 0) -> list[Stmt]:
        """The statements that use a definition, once for each use; ``place`` as below."""
        return [user for user, _, _ in self._found[id(s), place].users]

    def _only_user(self, s: Stmt) -> tuple[Stmt, str] | None:
        """The statement of the same block that is the value's one user, and how it uses it."""
        d = self._found[id(s), 0]
        if len(d.users) != 1 or d.users[0][1] != d.block:
            return None
        return d.users[0][0], d.users[0][2]

    def in_place(self, op: Op) -> bool:
        """Whether an op is better written where its result is used."""
        user = self._only_user(op)
        if user is None or user[1] != "operand":
            return False
        if isinstance(op, Load):
            return isinstance(user[0], Cast)
        return isinstance(op, Cast | Expand) or is_unnamed(op.result)

    def written_at(self, s: Stmt, body: tuple[Stmt, ...]) -> int:
        """Place in ``body`` of the statement whose line an op's text ends up in."""
        while isinstance(s, Op) and s.result is not None and self.in_place(s):
            s = self._found[id(s), 0].users[0][0]
        return next(i for i, x in enumerate(body) if x is s)

    def used_once_by(self, s: Stmt, place: int, loop: For) -> bool:
        """Whether a definition's only use is to start a carried value of a loop beside it.

        ``place`` counts a statement's results; the carried values of a loop are -1, -2 ...
        """
        d = self._found.get((id(s), place))
        if d is None or len(d.users) != 1:
            return False
        user, block, how = d.users[0]
        return user is loop and how == "carry" and block == d.block


def is_unnamed(name: str | None) -> bool:
    """Whether a value has no name in the source: it was written inside another statement."""
    return name is not None and name[0].isdigit()


def updated_in_place(loop: For, uses: Uses) -> dict[int, int]:
    """Carried values whose next value may be assigned to their variable right away.

    Maps the identity of the op that computes the next value to the place among the carries. It may
    when nothing after that op still needs the old value.
    """
    if not loop.carries:
        return {}
    last = loop.body[-1]
    yielded = last.values if isinstance(last, Yield) else ()
    out: dict[int, int] = {}
    for place, ((name, _), value) in enumerate(zip(loop.carries, yielded, strict=True)):
        at = next(
            (
                i for i, s in enumerate(loop.body)
                if isinstance(s, Op) and s.result is not None and s.result == value
            ),
            None,
        )  # fmt: skip
        if at is None or yielded.count(value) > 1 or name in yielded:
            continue
        before, after = loop.body[: at + 1], loop.body[at + 1 : -1]
        late = any(
            isinstance(s, For) or uses.written_at(s, loop.body) > at
            for s in before
            if mentions(s, name)
        )
        if not late and not any(mentions(s, name) for s in after):
            out[id(loop.body[at])] = place
    return out


def mentions(s: Stmt, name: str) -> bool:
    """Whether a statement or anything in its body uses a value."""
    if isinstance(s, Op):
        return name in s.operands() or any(name in variables(c) for c in s.coordinates())
    if isinstance(s, Yield):
        return name in s.values
    if isinstance(s, For):
        bounds = (*variables(s.var.lo), *variables(s.var.hi))
        if name in bounds or any(name == init for _, init in s.carries):
            return True
    return isinstance(s, For | Parallel) and any(mentions(x, name) for x in s.body)


def mentions_word(text: str, name: str) -> bool:
    """Whether a Python name occurs in a text."""
    return re.search(rf"\b{re.escape(name)}\b", text) is not None
