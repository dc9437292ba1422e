"""Hypothesis strategies for random well-typed kernels: every op kind, loop and bound.

These are about form: what ``kernels()`` gives verifies, prints and reads back, but running it may
divide by zero. For kernels that also run meaningfully see ``executable_strategies``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from ke_ir.expr import Bin, Call, Dim, Expr, Neg, Num, Var
from ke_ir.ir import DimDecl, For, Kernel, LoopVar, Parallel, Param, Yield
from ke_ir.ops import (
    REGISTRY,
    Accumulate,
    Binary,
    Broadcast,
    Cast,
    Cmp,
    Dot,
    Expand,
    Full,
    Iota,
    Load,
    Op,
    Permute,
    Reduce,
    Reshape,
    Scan,
    Select,
    Store,
    Unary,
)
from ke_ir.ops.arith import COMPARE, FLOAT_UNARY
from ke_ir.ops.memory import ACCUMULATIONS
from ke_ir.ops.shape import PRECISIONS, SCANS, TILE_REDUCTIONS
from ke_ir.scope import TypeScope
from ke_ir.types import DType, TensorType, TileType

Draw = Callable[[Any], Any]

FLOATS = [d for d in DType if d.is_float]
INTS = [d for d in DType if d.is_int]
DTYPES = list(DType)
WORDS = ("x", "acc", "v", "in_", "tile", "sum", "load", "B", "T9", "_", "stages", "to", "e5")
TILE_SIZES = (1, 2, 3, 4, 7, 16, 24, 128)


def int_literals(d: DType) -> st.SearchStrategy[int]:
    low = 0 if d is DType.U8 else -(1 << (d.bits - 1))
    return st.integers(low, low + (1 << d.bits) - 1)


def float_literals() -> st.SearchStrategy[float]:
    # The smallest and largest doubles, negative zero, infinities; one NaN object, for equality.
    return st.one_of(st.floats(allow_nan=False), st.just(math.nan), st.integers(-9, 9))


def literals(d: DType) -> st.SearchStrategy[Any]:
    """Literals that may stand for a value of this dtype."""
    if d.is_bool:
        return st.booleans()
    return int_literals(d) if d.is_int else float_literals()


@st.composite
def dim_decls(draw: Draw) -> tuple[DimDecl, ...]:
    """Up to three dims: static, given as a range, or derived from those before."""
    out: list[DimDecl] = []
    for name in draw(st.sampled_from([(), ("N",), ("B", "D"), ("D", "exp", "L_2")])):
        size = draw(st.integers(1, 70))
        form = draw(st.sampled_from(("static", "range", "derived")))
        if form == "range":
            low, high = draw(st.integers(1, size)), draw(st.integers(size, 65536))
            out.append(DimDecl(name, Num(size), low, high))
        elif form == "derived" and out:
            out.append(DimDecl(name, derived_size(draw, [d.name for d in out])))
        else:
            out.append(DimDecl(name, Num(size)))
    return tuple(out)


def derived_size(draw: Draw, dims: Sequence[str]) -> Expr:
    """A size of at least 1 made of dims of at least 1."""
    d = Dim(draw(st.sampled_from(list(dims))))
    k = Num(draw(st.integers(1, 5)))
    forms: tuple[Expr, ...] = (
        d, k, Bin("+", d, k), Bin("*", k, d), Bin("//", Bin("+", d, k), k),
        Bin("+", Bin("%", d, k), Num(1)), Bin("-", Bin("*", d, Num(2)), Bin("-", d, k)),
        Call("max", (Neg(d), k)), Call("min", (d, Bin("+", k, d))),
    )  # fmt: skip
    return draw(st.sampled_from(forms))


def sizes_from(draw: Draw, dims: Sequence[DimDecl]) -> Expr:
    if dims and draw(st.booleans()):
        return derived_size(draw, [d.name for d in dims])
    return Num(draw(st.integers(1, 40)))


@st.composite
def kernels(draw: Draw, name: str = "k", including: str = "") -> Kernel:
    """A kernel that verifies. ``including`` is a mnemonic of which one op at least is there."""
    return _KernelBuilder(draw, name).build(including)


class _KernelBuilder:
    """Emits statements and follows their types, so that every choice fits what is there."""

    def __init__(self, draw: Draw, name: str) -> None:
        self.draw, self.name = draw, name
        self.count = 0
        self.depth = 0
        self.body: list[Any] = []
        self.indices: list[LoopVar] = []

    def pick(self, options: Any) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def fresh(self) -> str:
        self.count += 1
        return f"{self.pick(WORDS)}{self.count}" if self.draw(st.booleans()) else str(self.count)

    def build(self, including: str) -> Kernel:
        draw = self.draw
        dims = draw(dim_decls())
        grid = draw(st.integers(1, 3))
        shape = tuple(sizes_from(draw, dims) for _ in range(grid))
        ins = [
            Param(f"in{i}", TensorType(self.pick(DTYPES), tuple(
                sizes_from(draw, dims) for _ in range(draw(st.integers(0, 3))))))
            for i in range(draw(st.integers(1, 3)))
        ]  # fmt: skip
        outs = [Param("out", TensorType(self.pick(DTYPES), shape))]
        kind = self.pick(ACCUMULATIONS)
        into = Param("total", TensorType(self.pick(FLOATS + INTS), shape[:1]))
        accumulates = including == "accumulate" or draw(st.booleans())
        outs += [into] if accumulates else []
        signature = Kernel(self.name, tuple(ins), tuple(outs), dims, ())
        self.scope = TypeScope(signature)
        self.parallel = Parallel(
            tuple(LoopVar(f"p{i}", Num(0), n, self.tile()) for i, n in enumerate(shape)), (),
            group=draw(st.integers(0, 8)) if grid > 1 else 0, persistent=draw(st.booleans()),
        )  # fmt: skip
        self.scope.enter(self.parallel)
        self.indices = list(self.parallel.vars)
        self.statements(draw(st.integers(0, 5)))
        if including not in ("", "store", "accumulate"):
            self.emit(including)
        self.statements(draw(st.integers(0, 2)))
        if accumulates:
            c = (Var("p0"),)
            x = self.stored(into.type.dtype, self.scope.access_shape(c))
            self.add(Accumulate(kind, x, "total", c))
        at = tuple(Var(v.name) for v in self.parallel.vars)
        x = self.stored(outs[0].type.dtype, self.scope.access_shape(at))
        self.add(Store(x, "out", at))
        body = Parallel(self.parallel.vars, tuple(self.body), self.parallel.group,
                        self.parallel.persistent)  # fmt: skip
        return Kernel(self.name, tuple(ins), tuple(outs), dims, (body,))

    def tile(self) -> int | None:
        return self.pick((None, *TILE_SIZES))

    def stored(self, d: DType, shape: tuple[int, ...]) -> Any:
        """What may be stored there: a literal, a scalar, or a tile."""
        form = self.pick(("literal", "scalar", "tile"))
        if form == "literal":
            return self.draw(literals(d))
        return self.full(TileType(d, shape if form == "tile" else ()))

    def statements(self, n: int) -> None:
        for _ in range(n):
            if self.depth < 3 and self.draw(st.integers(0, 4)) == 0:
                self.loop()
            else:
                self.emit(self.pick([m for m in REGISTRY if m not in ("store", "accumulate")]))

    def add(self, op: Op) -> str:
        self.scope.define(op)
        self.body.append(op)
        return op.result or ""

    # Values.

    def full(self, t: TileType) -> str:
        names = sorted(self.scope.dims)
        if names and not t.dtype.is_bool and self.draw(st.integers(0, 3)) == 0:
            value: Any = derived_size(self.draw, names)
            value = value.value if isinstance(value, Num) and t.dtype.is_float else value
            value = 1 if isinstance(value, Num) else value
        else:
            value = self.draw(literals(t.dtype))
        return self.add(Full(value, t, result=self.fresh()))

    def shape(self, low: int = 0, high: int = 3) -> tuple[int, ...]:
        return tuple(self.pick(TILE_SIZES[:5]) for _ in range(self.draw(st.integers(low, high))))

    def value(self, dtypes: Sequence[DType], low: int = 0) -> tuple[str, TileType]:
        """A value of one of the dtypes with at least ``low`` dimensions, made if there is none."""
        fits = [n for n, t in self.scope.values.items() if t.dtype in dtypes and t.rank >= low]
        if fits and self.draw(st.integers(0, 3)):
            name = self.pick(fits)
        else:
            name = self.full(TileType(self.pick(dtypes), self.shape(low)))
        return name, self.scope.values[name]

    def partner(self, t: TileType) -> Any:
        """A second operand: literal, scalar, the like, or one with sizes of 1."""
        form = self.pick(("literal", "scalar", "same", "ones"))
        if form == "literal":
            return self.draw(literals(t.dtype))
        shape = {"scalar": (), "same": t.shape, "ones": tuple(self.pick((1, n)) for n in t.shape)}
        return self.full(t.with_shape(shape[form]))

    # Statements.

    def emit(self, mnemonic: str) -> str:
        cls = REGISTRY[mnemonic]
        make = getattr(self, f"_{cls.__name__.lower()}")
        return self.add(make(mnemonic))

    def _unary(self, fn: str) -> Op:
        of = FLOATS if fn in FLOAT_UNARY else [*INTS, DType.I1] if fn == "not" else FLOATS + INTS
        return Unary(fn, self.value(of)[0], result=self.fresh())

    def _binary(self, fn: str) -> Op:
        of = (
            FLOATS if fn in ("div", "pow")
            else [*INTS, DType.I1] if fn in ("and", "or", "xor")
            else INTS if fn in ("floordiv", "mod", "shl", "shr")
            else FLOATS + INTS
        )  # fmt: skip
        x, t = self.value(of)
        pair = [x, self.partner(t)]
        if self.draw(st.booleans()):
            pair.reverse()
        return Binary(fn, *pair, result=self.fresh())

    def _cmp(self, _: str) -> Op:
        x, t = self.value(DTYPES)
        return Cmp(self.pick(COMPARE), x, self.partner(t), result=self.fresh())

    def _select(self, _: str) -> Op:
        x, t = self.value(DTYPES)
        c = self.full(TileType(DType.I1, self.pick((t.shape, ()))))
        return Select(c, x, self.partner(t), result=self.fresh())

    def _cast(self, _: str) -> Op:
        return Cast(self.value(DTYPES)[0], self.pick(DTYPES), result=self.fresh())

    def _reduce(self, _: str) -> Op:
        kind = self.pick(TILE_REDUCTIONS)
        x, t = self.value([DType.I1] if kind in ("any", "all") else FLOATS + INTS, 1)
        return Reduce(kind, x, self.draw(st.integers(0, t.rank - 1)), result=self.fresh())

    def _scan(self, _: str) -> Op:
        x, t = self.value(FLOATS + INTS, 1)
        dim = self.draw(st.integers(0, t.rank - 1))
        return Scan(self.pick(SCANS), x, dim, self.draw(st.booleans()), result=self.fresh())

    def _dot(self, _: str) -> Op:
        d = self.pick([*FLOATS, DType.I8, DType.U8])
        batch, (m, k, n) = self.shape(0, 1), (self.pick(TILE_SIZES) for _ in range(3))
        a = self.full(TileType(d, (*batch, m, k)))
        b = self.full(TileType(d, (*batch, k, n)))
        wide = {DType.F64: DType.F64, DType.I8: DType.I32, DType.U8: DType.I32}.get(d, DType.F32)
        acc = self.full(TileType(wide, (*batch, m, n))) if self.draw(st.booleans()) else None
        precision = self.pick(PRECISIONS) if d is DType.F32 else "ieee"
        return Dot(a, b, acc, precision, result=self.fresh())

    def _reshape(self, _: str) -> Op:
        x, t = self.value(DTYPES)
        forms = [(t.elements,), (1, t.elements), (*reversed(t.shape), 1), (*t.shape, 1)]
        return Reshape(x, t.with_shape(self.pick(forms)), result=self.fresh())

    def _permute(self, _: str) -> Op:
        x, t = self.value(DTYPES)
        order = self.draw(st.permutations(range(t.rank)))
        return Permute(x, tuple(order), result=self.fresh())

    def _expand(self, _: str) -> Op:
        x, t = self.value(DTYPES)
        return Expand(x, self.draw(st.integers(0, t.rank)), result=self.fresh())

    def _broadcast(self, _: str) -> Op:
        x, t = self.value(DTYPES)
        to = tuple(self.pick((n, 5)) if n == 1 else n for n in t.shape) if t.shape else self.shape()
        return Broadcast(x, t.with_shape(to), result=self.fresh())

    def _full(self, _: str) -> Op:
        self.full(TileType(self.pick(DTYPES), self.shape()))
        return self.body.pop()  # type: ignore[no-any-return]

    def _iota(self, _: str) -> Op:
        v = self.pick(self.indices)
        t = TileType(self.pick((DType.I32, DType.I64)), () if v.tile is None else (v.tile,))
        return Iota(v.name, t, result=self.fresh())

    def _load(self, _: str) -> Op:
        p = self.pick(self.scope.kernel.inputs)
        coords = tuple(self.coordinate() for _ in p.type.shape)
        if self.scope.access_shape(coords) and len(self.scope.access_shape(coords)) > 4:
            coords = tuple(Num(0) for _ in coords)
        t = TileType(p.type.dtype, self.scope.access_shape(coords))
        fill = self.draw(literals(t.dtype)) if self.draw(st.booleans()) else 0
        return Load(p.name, coords, t, fill, result=self.fresh())

    def coordinate(self) -> Expr:
        """An index tile, scalar or integer tile, alone or in a quasi-affine form.

        Forms that add something stay inside for some value, whatever the tensor's size.
        """
        form = self.pick(("zero", "plain", "shifted", "gather"))
        if form == "zero":
            return Num(0)
        if form == "gather":
            tiles = [n for n, t in self.scope.values.items() if t.dtype.is_int and t.rank < 2
                     and (t.rank == 0 or t.shape == (4,))]  # fmt: skip
            fresh = TileType(self.pick(INTS), self.pick(((), (4,))))
            return Var(self.pick(tiles) if tiles else self.full(fresh))
        v = Var(self.pick([v for v in self.indices if v.lo == Num(0)]).name)
        if form == "plain":
            return v
        k = Num(self.draw(st.integers(1, 9)))
        forms: tuple[Expr, ...] = (
            Bin("//", v, k), Bin("%", v, k), Bin("*", v, k), Bin("-", Bin("+", v, k), k),
            Bin("-", v, Bin("*", Num(2), v)), Bin("+", Neg(v), Num(0)),
            Bin("%", Bin("//", v, k), Num(3)), Call("min", (v, k)), Call("max", (Num(0), Neg(v))),
        )  # fmt: skip
        return self.pick(forms)

    def bound(self) -> Expr:
        """The end of a loop: a size, a scalar, or an end of an index tile."""
        tiled = [v.name for v in self.indices if v.tile]
        scalars = [v.name for v in self.indices if v.tile is None]
        scalars += [n for n, t in self.scope.values.items() if t.dtype.is_int and not t.shape]
        form = self.pick(("size", "end", "scalar"))
        if form == "end" and tiled:
            e: Expr = Call(self.pick(("begin", "end")), (Var(self.pick(tiled)),))
            return self.pick((e, Bin("+", e, Num(1)), Call("min", (e, Num(12)))))
        if form == "scalar" and scalars:
            return Var(self.pick(scalars))
        return sizes_from(self.draw, self.scope.kernel.dims)

    def loop(self) -> None:
        lo: Expr = Num(0) if self.draw(st.booleans()) else self.bound()
        var = LoopVar(self.fresh(), lo, self.bound(), self.tile())
        carried = [self.value(DTYPES)[0] for _ in range(self.draw(st.integers(0, 3)))]
        carries = tuple((self.fresh(), x) for x in carried)
        results = tuple(self.fresh() for _ in carries)
        stages = self.draw(st.integers(1, 4))
        head = For(var, (), carries, results, stages)
        before = dict(self.scope.values)
        outer, self.body = self.body, []
        self.scope.enter(head)
        self.indices.append(var)
        self.depth += 1
        self.statements(self.draw(st.integers(0, 3)))
        if carries:
            self.body.append(Yield(tuple(self.yielded(name) for name, _ in carries)))
        self.depth -= 1
        self.indices.pop()
        outer.append(For(var, tuple(self.body), carries, results, stages))
        self.body = outer
        types = [self.scope.values[name] for name, _ in carries]
        del self.scope.loops[var.name]
        self.scope.values = {**before, **dict(zip(results, types, strict=True))}

    def yielded(self, name: str) -> str:
        t = self.scope.values[name]
        return self.pick([n for n, u in self.scope.values.items() if u == t])
