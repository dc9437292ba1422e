"""The state of lowering one kernel: names, sizes, values and loop variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ke_ir.expr import LEVEL, Bin, Call, Dim, Expr, Neg, Num, Var, variables
from ke_ir.ir import For, Kernel, LoopVar, Yield, statements
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.scope import TypeScope
from ke_ir.types import DType, TileType
from lowering.triton.bounds import UNKNOWN, Interval, Poly
from lowering.triton.dims import KernelDims
from lowering.triton.options import TritonOptions
from lowering.triton.softmax import SoftmaxWeights
from lowering.triton.tiles import Tiles
from lowering.triton.uses import Uses, is_unnamed
from lowering.triton.values import (
    Carriers,
    Literal,
    Value,
    literal,
    operand_literal,
    power_of_two,
)
from lowering.triton.writer import Line, Names, Writer, atom, bare, tuple_text

_TIGHT = 9  # binding level of an atom
_NESTED_WIDTH = 60


@dataclass
class Index:
    """A loop variable in scope. ``offsets`` is its tile of indices (or the scalar itself).

    ``from_start`` is how the offsets are written where ``start`` has a variable of its own.
    ``masked`` tells that some of the tile's lanes may lie beyond the loop's range. The lines that
    define ``start``, ``end``, ``offsets`` and ``mask`` appear in the text when asked for.
    """

    var: LoopVar
    offsets: str
    start: str
    end: str = ""
    mask: str = ""
    masked: bool = False
    padded: bool = False
    lines: Mapping[str, Line] | None = None
    from_start: str = ""

    def ask(self, part: str) -> str:
        """The name of a part, whose definition is then kept in the text."""
        if self.lines and part in self.lines:
            self.lines[part].needed = True
            for below in {"end": ["start"], "mask": ["offsets"]}.get(part, []):
                self.ask(below)
            if part == "mask" and self.padded:
                self.ask("end")
            if part == "start":
                self.lines["offsets"].text = self.from_start
        return str(getattr(self, part))


class Context:
    """Everything the emitters of statements share while one kernel is lowered."""

    def __init__(self, kernel: Kernel, dims: KernelDims, options: TritonOptions) -> None:
        self.kernel, self.options = kernel, options
        self.carriers = Carriers(options)
        self.scope = TypeScope(kernel)
        self.uses = Uses(kernel)
        self.softmax_weights = SoftmaxWeights(kernel)
        self.tiles = Tiles(kernel)
        self.bounds = dims.bounds(kernel.dims)
        self.out = Writer()
        self.names = Names(set())
        self.tensor_names = {name: self.names.new(name) for name in kernel.tensors}
        self.dim_names = {d.name: self.names.new(d.name) for d in kernel.dims}
        self.used_dims: set[str] = set()
        self.constexprs: dict[str, int] = {}
        self.helpers: dict[str, None] = {}
        self.values: dict[str, Value] = {}
        self.indices: dict[str, Index] = {}
        self.env: dict[str, Interval] = {}
        self.multiples: dict[str, int] = {}
        self.assign_to: dict[int, str] = {}
        self.loops: list[For] = []  # those written as loops, around the statement at hand
        inner = [s for s in statements(kernel.body) if isinstance(s, For) and is_innermost(s)]
        self.stages = {s.stages for s in inner if self.trips(s.var) != 1}
        self._definitions: dict[str, tuple[Stmt, int]] = {}

    # -- sizes and integers --------------------------------------------------------------------
    def dim(self, name: str) -> str:
        """The Python name of a dim, which becomes an argument of the kernel."""
        self.used_dims.add(name)
        return self.dim_names[name]

    def block(self, var: LoopVar) -> tuple[str, str]:
        """Names of the constants for a tile's size and its number of lanes."""
        tile = var.tile or 1
        size = self._constant(f"BLOCK_{var.name.upper()}", tile)
        lanes = power_of_two(tile)
        return size, size if lanes == tile else self._constant(f"LANES_{var.name.upper()}", lanes)

    def _constant(self, base: str, value: int) -> str:
        name, n = base, 1
        while name in self.dim_names.values() or self.constexprs.get(name, value) != value:
            n += 1
            name = f"{base}_{n}"
        self.constexprs[name] = value
        return name

    def leaf(self, name: str) -> str:
        """A scalar variable of an integer expression."""
        if name in self.indices:
            return self.indices[name].ask("offsets")
        return self.values[name].text

    def _is_tile(self, name: str) -> bool:
        if name in self.indices:
            return self.scope.loops[name].tile is not None
        return self.values[name].type.rank > 0

    def integer(self, e: Expr, leaf: Callable[[str], str] | None = None, level: int = 0) -> str:
        """An integer expression as text; ``leaf`` gives the text of variables."""
        leaf = leaf or self.leaf
        match e:
            case Num(value):
                return str(value) if value >= 0 or level == 0 else f"({value})"
            case Dim(name):
                return self.dim(name)
            case Var(name):
                return leaf(name)
            case Neg(arg):
                text = f"-{self.integer(arg, leaf, _TIGHT)}"
                return f"({text})" if level else text
            case Call(("begin" | "end") as fn, (Var(name),)):
                return self.indices[name].ask("start" if fn == "begin" else "end")
            case Call(fn, args):
                # Python's own functions compare whole tiles, where the text is interpreted.
                fn = f"tl.{fn}imum" if any(map(self._is_tile, variables(e))) else fn
                return f"{fn}({', '.join(self.integer(a, leaf) for a in args)})"
            case Bin(("//" | "%") as op, lhs, rhs) if not self.never_negative(lhs):
                fn = self.helper("floor_divide" if op == "//" else "floor_modulo")
                return f"{fn}({self.integer(lhs, leaf)}, {self.integer(rhs, leaf)})"
            case Bin(op, lhs, rhs):
                mine = LEVEL[op]
                text = f"{self.integer(lhs, leaf, mine)} {op} {self.integer(rhs, leaf, mine + 1)}"
                return f"({text})" if mine < level else text
        raise TypeError(f"not an integer expression: {e!r}")

    def never_negative(self, e: Expr) -> bool:
        return self.bounds.at_most(Poly.const(0), self.bounds.interval(e, self.env).lo)

    def trips(self, var: LoopVar) -> int | None:
        """Number of iterations, when it is the same for every size."""
        n = span(var)
        size = None if variables(n) else self.bounds.exact(n)
        return None if size is None or size.value is None else -(-size.value // var.step)

    def nest(self, s: For) -> list[For]:
        """The loops that are written as one with ``s``, outermost first; ``s`` alone if none is.

        Each is all of the body of the one before, and carries what that one carries. Only where
        the innermost is pipelined: short loops would be filled and emptied again each time.
        """
        found = [s]
        while (inner := _only_loop(found[-1])) is not None:
            found.append(inner)
        same = all(self.trips(loop.var) is not None for loop in found)
        return found if same and found[-1].stages > 1 and is_innermost(found[-1]) else [s]

    # -- values --------------------------------------------------------------------------------
    def helper(self, name: str) -> str:
        """The name of a helper function, which is then written into the file."""
        self.helpers[name] = None
        return name

    def value(self, operand: Operand) -> Value:
        assert isinstance(operand, str), "a literal has no type of its own"
        return self.values[operand]

    def constant(self, operand: Operand) -> Literal | None:
        """The one number that an operand is, if it is one."""
        return self.values[operand].constant if isinstance(operand, str) else operand

    def text(self, operand: Operand, dtype: DType) -> str:
        """An operand as a Python atom."""
        if isinstance(operand, str):
            return self.materialised(self.values[operand])
        return operand_literal(operand, dtype)

    def materialised(self, v: Value) -> str:
        """The text of a value; a constant becomes a tile."""
        return v.text or self.full(v)

    def full(self, v: Value) -> str:
        """A tile of a constant."""
        number, t = v.constant or 0, v.type
        shape, dtype = tuple_text(v.dims), self.carriers.register(t.dtype)
        if number == 0 and t.shape and not t.dtype.is_bool:
            return f"tl.zeros({shape}, dtype={dtype})"
        return f"tl.full({shape}, {literal(number, t.dtype)}, {dtype})"

    def dims_of(self, name: str, t: TileType) -> tuple[str, ...]:
        """The sizes of a value in registers: names of tile constants where they are known."""
        return tuple(self.lanes(self.tiles.of(name, i), n) for i, n in enumerate(t.shape))

    def lanes(self, var: LoopVar | None, size: int) -> str:
        """One size in registers, along a loop variable if that is known."""
        if var is None or var.tile != size:
            return str(power_of_two(size))
        return self.block(var)[1]

    def define(
        self,
        op: Op,
        t: TileType,
        text: str,
        *,
        pad: Literal | None = None,
        bounds: Interval = UNKNOWN,
        in_place: bool = False,
    ) -> None:
        """Enter an op's result: assign ``text`` to a variable, or keep it to write it in place."""
        assert op.result is not None
        nested = is_unnamed(op.result) and len(text) < _NESTED_WIDTH and self.uses.in_place(op)
        if nested and "\n" not in text:
            value = Value(atom(text), t, pad, bounds=bounds)
        elif in_place:
            value = Value(text, t, pad, bounds=bounds)
        else:
            base = "t" if is_unnamed(op.result) else op.result
            name = self.assign_to.get(id(op)) or self.names.new(base)
            self.out.line(f"{name} = {bare(text)}")
            value = Value(name, t, pad, bounds=bounds, owned=True)
        self.enter(op.result, value)
        self._definitions[op.result] = (op, 0)

    def enter(self, name: str, value: Value, by: tuple[Stmt, int] | None = None) -> None:
        """Make a value known by its KE-IR name; ``by`` is the statement and place defining it."""
        self.values[name] = replace(value, dims=self.dims_of(name, value.type))
        self.env[name] = value.bounds
        if by is not None:
            self._definitions[name] = by

    def defined_by(self, name: Operand) -> Stmt | None:
        """The statement that computes a value, unless it is written without one (a constant)."""
        return self._definitions[name][0] if name in self._definitions else None

    def lends(self, name: Operand, loop: For) -> bool:
        """Whether a loop may carry a value in the variable of the one it starts from."""
        if not isinstance(name, str) or name not in self._definitions:
            return False
        s, place = self._definitions[name]
        return self.values[name].owned and self.uses.used_once_by(s, place, loop)


def is_innermost(s: For) -> bool:
    """Whether a loop has no loop inside: only such loops are pipelined."""
    return not any(isinstance(x, For) for x in s.body)


def span(var: LoopVar) -> Expr:
    """How many indices a loop covers."""
    match var.hi:
        case Bin("+", lo, n) if lo == var.lo:
            return n
    return var.hi if var.lo == Num(0) else Bin("-", var.hi, var.lo)


def _only_loop(s: For) -> For | None:
    """The loop that is all that one does, if it carries the same values."""
    if not s.carries or len(s.body) != 2:
        return None
    inner, last = s.body
    if not (isinstance(inner, For) and isinstance(last, Yield)):
        return None
    names = tuple(name for name, _ in s.carries)
    same = tuple(init for _, init in inner.carries) == names and last.values == inner.results
    return inner if same else None


def padded_of(t: TileType) -> tuple[int, ...]:
    return tuple(power_of_two(n) for n in t.shape)
