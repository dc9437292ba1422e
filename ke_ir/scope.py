"""Types of a kernel's values while its body is walked, and the shape of memory accesses.

The verifier, the printer of types and every lowering walk a body in order and keep one
``TypeScope``. A name is never shadowed, so one flat table serves: what a finished loop defined
may stay in it, since verified IR no longer names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ke_ir.diagnostics import near
from ke_ir.expr import Bin, Call, Dim, Expr, Neg, Num, Var, show, variables, walk
from ke_ir.ir import For, Kernel, LoopVar, Parallel
from ke_ir.ops.base import Invalid, Op, Operand, Stmt
from ke_ir.types import TensorType, TileType


@dataclass(frozen=True)
class Axis:
    """Where one dimension of an accessed tile comes from.

    ``index`` names the index tile; else ``tiles`` are the integer tiles that stretch together and
    ``tile_dim`` which of their common dimensions this is.
    """

    size: int
    index: str = ""
    tiles: tuple[str, ...] = ()
    tile_dim: int = 0


class TypeScope:
    """Implements ``ke_ir.ops.base.Scope`` for one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.tensors = kernel.tensors
        self.dims = {d.name for d in kernel.dims}
        self.values: dict[str, TileType] = {}
        self.loops: dict[str, LoopVar] = {}

    def type_of(self, operand: Operand) -> TileType | None:
        if not isinstance(operand, str):
            return None
        t = self.values.get(operand)
        if t is None:
            raise self.unknown_value(operand)
        return t

    def unknown_value(self, name: str) -> Invalid:
        if name in self.loops:
            return Invalid(
                "loop-variable", f"%{name} is a loop variable, not a value", ["a value"],
                f"take its indices with `iota %{name} : i32"
                + (f"[{self.loops[name].tile}]`" if self.loops[name].tile else "`"),
            )  # fmt: skip
        if name in self.tensors:
            return Invalid("tensor-operand", f"%{name} is a tensor, not a value", ["a value"],
                           f"read a tile of it with `load %{name}[...]`")  # fmt: skip
        hint = near(name, self.values)
        return Invalid("undefined", f"%{name} is not defined here", ["a value in scope"], hint)

    def tensor(self, name: str) -> TensorType:
        t = self.tensors.get(name)
        if t is None:
            known = ", ".join(f"%{n}" for n in self.tensors)
            raise Invalid("unknown-tensor", f"the kernel has no tensor %{name}", [known],
                          near(name, self.tensors))  # fmt: skip
        return t

    def check_dims(self, e: Expr) -> None:
        check_integer(e)
        if names := variables(e):
            raise Invalid("not-a-size", f"%{names[0]} in an expression of dims", ["dims, numbers"])
        check_no_ends(e, "an expression of dims", "dims, numbers")
        self._known_dims(e)

    def _known_dims(self, e: Expr) -> None:
        for n in () if isinstance(e, Var) else walk(e):
            if isinstance(n, Dim) and n.name not in self.dims:
                hint = near(n.name, self.dims)
                if n.name in self.loops or n.name in self.values:
                    hint = f"write `%{n.name}`"
                raise Invalid("unknown-dim", f"there is no dim `{n.name}`", sorted(self.dims), hint)

    def index_length(self, name: str) -> int | None:
        v = self.loops.get(name)
        if v is None:
            if name in self.values:
                raise Invalid("not-a-loop", f"%{name} is not a loop variable",
                              ["a variable of `for` or `parallel`"])  # fmt: skip
            raise Invalid("undefined", f"%{name} is not defined here", ["a loop variable"],
                          near(name, self.loops))  # fmt: skip
        return v.tile

    def access(self, coords: Sequence[Expr]) -> tuple[Axis, ...]:
        """The dimensions that these coordinates give, by the rule of ``ke_ir.ops.memory``."""
        seen: list[str] = []
        for c in coords:
            check_integer(c)
            self._known_dims(c)
            check_no_ends(c, "a coordinate", "index tiles, scalars, integer tiles")
            seen += [v for v in variables(c) if v not in seen]
        axes: list[Axis] = []
        tiles = [v for v in seen if v not in self.loops and self._integer(v).shape]
        common = self._common(tiles)
        for v in seen:
            if v in self.loops:
                size = self.loops[v].tile
                if size is not None:
                    axes.append(Axis(size, index=v))
            elif tiles and v == tiles[0]:
                names = tuple(tiles)
                axes += [Axis(s, tiles=names, tile_dim=i) for i, s in enumerate(common)]
        return tuple(axes)

    def access_shape(self, coords: Sequence[Expr]) -> tuple[int, ...]:
        return tuple(a.size for a in self.access(coords))

    def _integer(self, name: str) -> TileType:
        t = self.values.get(name)
        if t is None:
            raise Invalid("undefined", f"%{name} is not defined here",
                          ["a loop variable or an integer value"],
                          near(name, (*self.values, *self.loops)))  # fmt: skip
        if not t.dtype.is_int:
            raise Invalid("coordinate", f"%{name} is {t}, not an integer", ["an integer value"],
                          "convert with `cast %" + name + " : i64`")  # fmt: skip
        return t

    def _common(self, tiles: Sequence[str]) -> tuple[int, ...]:
        shapes = [self.values[t].shape for t in tiles]
        rank = max((len(s) for s in shapes), default=0)
        out = [1] * rank
        for name, s in zip(tiles, shapes, strict=True):
            for i, n in enumerate((1,) * (rank - len(s)) + s):
                if n != 1 and out[i] not in (1, n):
                    raise Invalid(
                        "shape-mismatch",
                        f"integer tiles in one access stretch together; %{name} is "
                        f"{self.values[name]}, the others give {out}",
                        hint="insert dimensions of size 1 with `expand`",
                    )
                out[i] = max(out[i], n)
        return tuple(out)

    def check_bound(self, e: Expr) -> None:
        """Raise Invalid unless ``e`` is a scalar integer that may bound a loop here."""
        check_integer(e)
        self._known_dims(e)
        inside: set[int] = set()
        for n in walk(e):
            if isinstance(n, Call) and n.fn in ("begin", "end"):
                arg = n.args[0]
                if not isinstance(arg, Var) or self.index_length(arg.name) is None:
                    raise Invalid("bound", f"`{show(n, '%')}`",
                                  [f"`{n.fn}(%i)` of an index tile %i"])  # fmt: skip
                inside.add(id(arg))
            elif isinstance(n, Var) and id(n) not in inside:
                self._check_scalar(n.name)

    def _check_scalar(self, name: str) -> None:
        if name in self.loops:
            if self.loops[name].tile is not None:
                raise Invalid(
                    "bound", f"%{name} is an index tile, not one number", ["a scalar"],
                    f"use `begin(%{name})` or `end(%{name})`",
                )  # fmt: skip
        elif self._integer(name).shape:
            raise Invalid("bound", f"%{name} is {self.values[name]}, not one number", ["a scalar"])

    def enter(self, s: For | Parallel) -> None:
        """Define what the body of a loop sees: its variables and carried values."""
        for v in (s.var,) if isinstance(s, For) else s.vars:
            self.loops[v.name] = v
        if isinstance(s, For):
            for name, init in s.carries:
                t = self.type_of(init)
                if t is None:
                    raise Invalid("literal-operands", f"%{name} starts from a literal",
                                  ["a value"], "make it with `full VALUE : TYPE`")  # fmt: skip
                self.values[name] = t

    def leave(self, s: For | Parallel) -> None:
        """Define the results of a loop whose body has been walked."""
        if isinstance(s, For):
            for r, (name, _) in zip(s.results, s.carries, strict=True):
                self.values[r] = self.values[name]

    def define(self, op: Op) -> TileType | None:
        """Infer an op and enter its result; returns the result's type."""
        t = op.infer(self)
        if op.result is not None and t is not None:
            self.values[op.result] = t
        return t


def check_integer(e: Expr) -> None:
    """Raise Invalid unless ``e`` has the form of an integer expression."""
    for n in () if isinstance(e, Var) else walk(e):
        ok = (
            isinstance(n, Dim | Var | Neg | Call)
            or (isinstance(n, Num) and type(n.value) is int)
            or (isinstance(n, Bin) and n.op in ("+", "-", "*", "//", "%"))
        )
        if not ok:
            hint = "use `//`" if isinstance(n, Bin) and n.op == "/" else ""
            raise Invalid("coordinate", f"`{show(n, '%')}` is not an integer expression",
                          ["integers with + - * // %"], hint)  # fmt: skip
        if isinstance(n, Bin) and n.op in ("//", "%"):
            if isinstance(n.rhs, Num) and isinstance(n.rhs.value, int) and n.rhs.value <= 0:
                raise Invalid("division", f"`{show(n, '%')}` divides by {n.rhs.value}",
                              ["a positive number"])  # fmt: skip
            if variables(n.rhs):
                raise Invalid("coordinate", f"`{show(n, '%')}` is not quasi-affine",
                              ["a divisor of dims and numbers"])  # fmt: skip


def check_no_ends(e: Expr, where: str, expected: str) -> None:
    """Raise Invalid if ``begin`` or ``end``, which are for loop bounds, stand in ``e``."""
    for n in () if isinstance(e, Var) else walk(e):
        if isinstance(n, Call) and n.fn in ("begin", "end"):
            raise Invalid("coordinate", f"`{show(n, '%')}` in {where}", [expected])


def infer_types(kernel: Kernel) -> TypeScope:
    """Walk a verified kernel to its end; the scope then has a type for every name.

    Where two disjoint loops define one name, the last definition stands: walk along with
    ``enter``, ``define`` and ``leave`` instead where that matters.
    """
    scope = TypeScope(kernel)

    def go(body: Iterable[Stmt]) -> None:
        for s in body:
            if isinstance(s, Op):
                scope.define(s)
            elif isinstance(s, For | Parallel):
                scope.enter(s)
                go(s.body)
                scope.leave(s)

    go(kernel.body)
    return scope
