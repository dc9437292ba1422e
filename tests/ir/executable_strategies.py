"""Hypothesis strategies for kernels that run: every output element is written once, values stay
bounded, and an error bound goes with each result.

The builder follows each value's range and its rounding error (running error analysis, first
order), so that a comparison between two ways to run a kernel has a tolerance that follows from
dtypes and the length of sums. Discontinuous functions (rounding, comparison, argmax) are applied
to exact values only, since an error there could become any difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from ke_ir.expr import Bin, Call, Dim, Expr, Num, Var
from ke_ir.ir import DimDecl, For, Kernel, LoopVar, Parallel, Param, Yield
from ke_ir.ops import (
    Accumulate,
    Binary,
    Broadcast,
    Cast,
    Cmp,
    Dot,
    Expand,
    Full,
    Iota,
    Op,
    Permute,
    Reduce,
    Reshape,
    Scan,
    Select,
    Store,
    Unary,
)
from ke_ir.scope import TypeScope
from ke_ir.types import DType, TensorType, TileType
from tests.ir.executable_values import (
    F32,
    I1,
    I32,
    MONOTONE,
    NARROW,
    PRODUCT,
    SINGLE,
    TAME,
    ExecutableKernel,
    V,
    Values,
)

Draw = Callable[[Any], Any]

SIZES = (1, 2, 3, 5, 7, 8, 13, 16)
TILES = (None, 1, 2, 3, 4, 5, 8, 16)


@st.composite
def executable_kernels(
    draw: Draw, name: str = "k", narrow: tuple[DType, ...] = NARROW, wide: bool = True
) -> ExecutableKernel:
    """A kernel that runs. ``narrow`` are the floats it may use beside f32; ``wide``: also f64."""
    return _Builder(draw, name, narrow, wide).build()


class _Builder(Values):
    def __init__(self, draw: Draw, name: str, narrow: tuple[DType, ...], wide: bool) -> None:
        super().__init__(draw)
        self.name = name
        self.floats = (F32, F32, F32, *narrow, *((DType.F64,) if wide else ()))
        self.ins: list[Param] = []
        self.outs: list[Param] = []
        self.errors: dict[str, float] = {}
        self.trips: dict[str, int] = {}
        self.indices: list[LoopVar] = []

    # The frame of a kernel.

    def build(self) -> ExecutableKernel:
        self.dims = [self.dim("M"), self.dim("N"), self.dim("K")]
        self.sizes = {d.name: int(d.size.value) for d in self.dims}  # type: ignore[attr-defined]
        kernel = Kernel(self.name, (), (), tuple(self.dims), ())
        self.scope = TypeScope(kernel)
        grid = [self.loop_var("i", Dim("M"), "M"), self.loop_var("j", Dim("N"), "N")]
        grid = grid[: self.pick(1, 2, 2)]
        group = self.pick(0, 0, 2) if len(grid) > 1 else 0
        parallel = Parallel(tuple(grid), (), group, self.chance(4))
        self.scope.enter(parallel)
        self.indices = list(grid)
        out = self.out_param("y", tuple(v.hi for v in grid))
        at = tuple(Var(v.name) for v in grid)
        base = self.load(self.input(self.base_dtype(out.type.dtype), out.type.shape), at, 0)
        self.pool.append(base)
        self.steps(self.pick(0, 1, 2, 3, 4))
        if self.chance(2):
            self.reduction_loop()
        if len(grid) == 2 and self.chance(3):
            self.accumulated(grid)
        result = self.finish(base, out.type.dtype)
        self.store(Store(result.name, "y", at), result)
        body = (replace(parallel, body=tuple(self.body)),)
        # A run-time size must be that of some tensor, for a launcher to know it.
        told = {e for p in (*self.ins, *self.outs) for e in p.type.shape}
        dims = tuple(d if Dim(d.name) in told else DimDecl(d.name, d.size) for d in self.dims)
        whole = replace(
            kernel, dims=dims, inputs=tuple(self.ins), outputs=tuple(self.outs), body=body
        )
        seed = self.draw(st.integers(0, 2**16))
        return ExecutableKernel(whole, self.domains, self.errors, seed)

    def dim(self, name: str) -> DimDecl:
        size = Num(self.pick(*SIZES))
        return DimDecl(name, size, *((1, 64) if self.chance(3) else ()))

    def loop_var(self, name: str, hi: Expr, dim: str, tile: Any = -1) -> LoopVar:
        v = LoopVar(name, Num(0), hi, self.pick(*TILES) if tile == -1 else tile)
        self.trips[name] = -(-self.sizes[dim] // v.step)
        return v

    def out_param(self, name: str, shape: tuple[Expr, ...]) -> Param:
        d = self.pick(F32, F32, I32, DType.I64, DType.I8, *self.floats)
        self.outs.append(Param(name, TensorType(d, shape)))
        self.scope.tensors[name] = self.outs[-1].type
        return self.outs[-1]

    def base_dtype(self, out: DType) -> DType:
        return self.pick(*self.floats) if out.is_float else self.pick(I32, DType.I8, DType.I64, out)

    def input(self, d: DType, shape: tuple[Expr, ...], domain: Any = None) -> Param:
        p = Param(f"in{len(self.ins)}", TensorType(d, shape))
        self.ins.append(p)
        self.scope.tensors[p.name] = p.type
        default = (
            (0, 1) if d is I1 else (0, 9) if d is DType.U8 else (-5, 9) if d.is_int else (-2, 2)
        )
        self.domains[p.name] = domain or default
        return p

    def finish(self, base: V, d: DType) -> V:
        """The base combined with values of the pool, as the output's dtype."""
        v = self.to_float(base) if d.is_float else base
        for other in self.draw(st.lists(st.sampled_from(self.pool), max_size=3)):
            if d.is_float:
                x = (
                    self.to_float(other)
                    if other.type.dtype is not I1
                    else self.as_number(other, F32)
                )
            elif other.type.dtype.is_int:
                x = self.cast(other, v.type.dtype)
            else:
                continue
            x = x if x.type.shape == v.type.shape else self.scalar(x)
            v = self.arithmetic(
                self.pick("add", "sub", "max", "min"), self.bounded(v), self.bounded(x)
            )
        return self.cast(self.bounded(v), d)

    # Random statements.

    def steps(self, n: int) -> None:
        actions = [
            self.any_load, self.gather, self.positions, self.unary, self.unary, self.unary,
            self.binary, self.rounded, self.compared, self.integer, self.shaped, self.reduced,
            self.scanned, self.full, self.power, self.divided,
        ]  # fmt: skip
        for _ in range(n):
            self.draw(st.sampled_from(actions))()

    def a_float(self) -> V:
        found = [v for v in self.pool if v.type.dtype.is_float]
        return self.draw(st.sampled_from(found)) if found else self.to_float(self.an_int())

    def an_int(self) -> V:
        found = [v for v in self.pool if v.type.dtype.is_int]
        if found:
            return self.draw(st.sampled_from(found))
        v = self.pick(*self.indices)
        return self.load(self.input(I32, (Dim(self.dim_of(v)),)), (Var(v.name),), 0)

    def dim_of(self, v: LoopVar) -> str:
        return {"i": "M", "j": "N", "k": "K"}[v.name]

    def coordinate(self, v: LoopVar) -> tuple[Expr, Expr]:
        """A coordinate over a loop variable, and a size of a tensor to read with it."""
        d, x = Dim(self.dim_of(v)), Var(v.name)
        k = Num(self.pick(1, 2, 3))
        forms: tuple[tuple[Expr, Expr], ...] = (
            (x, d), (x, Bin("+", d, Num(2))), (Bin("+", x, k), d), (Bin("-", x, k), d),
            (Bin("//", x, k), d), (Bin("*", x, k), d), (Bin("%", x, k), d),
            (Bin("-", Bin("-", d, Num(1)), x), d),
            (Bin("+", Bin("%", Bin("//", x, Num(2)), k), Bin("*", k, x)), Bin("*", Num(2), d)),
        )  # fmt: skip
        return self.draw(st.sampled_from(forms))

    def inside(self, e: Expr, v: LoopVar, size: Expr) -> bool:
        """True if some index of the loop is inside, as the verifier demands of an access."""
        from ke_ir.expr import evaluate_int

        n = evaluate_int(size, self.sizes)
        at = (evaluate_int(e, {**self.sizes, v.name: i}) for i in range(self.sizes[self.dim_of(v)]))
        return any(0 <= a < n for a in at)

    def any_load(self) -> None:
        chosen = self.draw(st.permutations(self.indices))[: self.pick(1, 1, 2, 3)]
        coords, shape = [], []
        for v in chosen:
            e, size = self.coordinate(v)
            if not self.inside(e, v, size):
                e, size = Var(v.name), Dim(self.dim_of(v))
            coords.append(e)
            shape.append(size)
        if self.chance(4):
            coords.insert(0, Num(1))
            shape.insert(0, Num(2))
        d = self.pick(*self.floats, I32, DType.I8, DType.U8, DType.I16)
        fill = self.pick(0, 1, 3) if d.is_int else self.pick(0, 0, -1.5, 0.25, 2.0)
        self.keep(self.load(self.input(d, tuple(shape)), tuple(coords), fill))

    def gather(self) -> None:
        """Rows by an index tensor; some indices are outside."""
        v = self.pick(*self.indices)
        d = Dim(self.dim_of(v))
        table = self.input(self.pick(*self.floats), (Num(5), d))
        ids = self.input(self.pick(I32, DType.I64), (d,), (-2, 6))
        row = self.load(ids, (Var(v.name),), self.pick(0, -1))
        other = self.pick(*self.indices)
        coords: tuple[Expr, ...] = (Var(row.name), Var(other.name))
        if self.chance(3):
            coords = (Bin("+", Var(row.name), Num(1)), Var(v.name))
        self.keep(self.load(table, coords, self.pick(0, 0.5)))

    def positions(self) -> None:
        v = self.pick(*self.indices)
        t = TileType(self.pick(I32, DType.I64), () if v.tile is None else (v.tile,))
        self.keep(self.add(Iota(v.name, t), 0, self.trips[v.name] * v.step))

    def full(self) -> None:
        if self.chance(2):
            d = self.pick(*self.dims)
            n = self.sizes[d.name] + 1
            value = Bin("+", Dim(d.name), Num(1))
            t = TileType(self.pick(F32, I32))
            self.keep(self.add(Full(value, t), 2 if d.is_range else n, n))
        else:
            x = self.pick(0.5, -1.0, 2.0)
            self.keep(self.add(Full(x, TileType(F32, self.shape_like())), x, x))

    def unary(self) -> None:
        fn = self.pick(*TAME, "abs", "neg")
        v = self.a_float()
        if fn in ("abs", "neg"):
            self.keep(self.add(Unary(fn, v.name), -v.size, v.size, v.err))
            return
        lo, hi, slope = TAME[fn]
        v = self.clamp(v, lo, hi)
        v = self.clamp(self.cast(v, F32), lo, hi) if v.type.dtype in NARROW[2:] else v
        if fn in MONOTONE:
            ends = [MONOTONE[fn](v.lo), MONOTONE[fn](v.hi)]
            low, high = min(ends), max(ends)
        else:
            low, high = -1.0, 1.0
        size = max(abs(low), abs(high))
        err = v.err * slope(v.lo, v.hi) + self.rounding(v.type.dtype, size) + 8 * SINGLE * size
        self.keep(self.add(Unary(fn, v.name), low, high, err))

    def binary(self) -> None:
        v = self.bounded(self.a_float())
        if v.type.dtype in NARROW[2:]:
            v = self.cast(v, F32)
        fn = self.pick("add", "sub", "mul", "min", "max")
        limit = (lambda x: self.clamp(x, -8, 8)) if fn == "mul" else self.bounded
        self.keep(self.arithmetic(fn, limit(v), limit(self.partner(v))))

    def divided(self) -> None:
        v = self.clamp(self.to_float(self.a_float()), -8, 8)
        by = self.clamp(self.partner(v), 0.5, 8)
        self.keep(self.arithmetic("div", v, by))

    def power(self) -> None:
        v = self.clamp(self.to_float(self.a_float()), 0.5, 2)
        y = self.pick(2.0, 0.5, -1.5)
        ends = [v.lo**y, v.hi**y]
        err = v.err * abs(y) * 6 + 16 * SINGLE * max(ends)
        self.keep(self.add(Binary("pow", v.name, y), min(ends), max(ends), err))

    def exact(self) -> V:
        """A float without error."""
        v = self.a_float()
        return v if v.err == 0 else self.to_float(self.an_int())

    def rounded(self) -> None:
        v = self.exact()
        v = self.cast(v, F32) if v.type.dtype in NARROW else v
        fn = self.pick("floor", "ceil", "round", "trunc", "cast")
        lo, hi = math.floor(v.lo), math.ceil(v.hi)
        if fn == "cast":
            self.keep(self.add(Cast(v.name, self.pick(I32, DType.I64)), lo, hi))
        else:
            self.keep(self.add(Unary(fn, v.name), lo, hi))

    def compared(self) -> None:
        v = self.exact() if self.chance(2) else self.an_int()
        v = self.cast(v, F32) if v.type.dtype in NARROW else v
        pred = self.pick("eq", "ne", "lt", "le", "gt", "ge")
        c = self.add(Cmp(pred, v.name, self.literal(v, 1)), 0, 1)
        if self.chance(3):
            c = self.add(Binary(self.pick("and", "or", "xor"), c.name, True), 0, 1)
            c = self.add(Unary("not", c.name), 0, 1)
        if c.type.rank and self.chance(3):
            kind = self.pick("any", "all")
            c = self.add(Reduce(kind, c.name, self.draw(st.integers(0, c.type.rank - 1))), 0, 1)
        if c.type.shape == v.type.shape:
            w = self.clamp(self.partner(v), -50, 50) if v.type.dtype is not DType.U8 else v
            chosen = Select(c.name, v.name, w.name)
            self.keep(self.add(chosen, min(v.lo, w.lo), max(v.hi, w.hi), max(v.err, w.err)))
        else:
            self.keep(self.as_number(c, F32))

    def integer(self) -> None:
        v = self.cast(self.clamp(self.an_int(), 0, 60), self.pick(I32, DType.I64))
        fn = self.pick("floordiv", "mod", "and", "or", "xor", "shl", "shr", "mul", "sub")
        if fn in ("mul", "sub"):
            self.keep(self.arithmetic(fn, v, self.cast(self.clamp(self.partner(v), -9, 9),
                                                       v.type.dtype)))  # fmt: skip
            return
        if fn in ("floordiv", "mod"):
            v = self.add(Binary("sub", v.name, 7), v.lo - 7, v.hi - 7)
            k = self.pick(3, 1, 4, 7)
            lo, hi = (v.lo // k, v.hi // k) if fn == "floordiv" else (0, k - 1)
            self.keep(self.add(Binary(fn, v.name, k), lo, hi))
            return
        k = self.pick(1, 2, 3)
        hi = {"shl": v.hi * 8, "and": 3.0}.get(fn, 63.0)
        self.keep(self.add(Binary(fn, v.name, k), 0, hi))

    def shaped(self) -> None:
        v = self.draw(st.sampled_from(self.pool))
        t, form = v.type, self.pick("permute", "expand", "reshape", "broadcast", "flat")
        if form == "permute":
            op: Op = Permute(v.name, tuple(self.draw(st.permutations(range(t.rank)))))
        elif form == "expand" and t.rank < 3:
            op = Expand(v.name, self.draw(st.integers(0, t.rank)))
        elif form == "broadcast" and (1 in t.shape or not t.shape):
            to = tuple(3 if n == 1 else n for n in t.shape) or (4,)
            op = Broadcast(v.name, t.with_shape(to))
        elif form == "reshape":
            op = Reshape(v.name, t.with_shape((*reversed(t.shape), 1)))
        else:
            op = Reshape(v.name, t.with_shape((t.elements,)))
        self.keep(self.add(op, v.lo, v.hi, v.err))

    def reduced(self) -> None:
        v = self.tiled()
        dim = self.draw(st.integers(0, v.type.rank - 1))
        kind = self.pick("sum", "sum", "max", "min", "argmax", "argmin", "prod")
        if kind in ("argmax", "argmin") and v.err == 0:
            self.keep(self.add(Reduce(kind, v.name, dim), 0, v.type.shape[dim] - 1))
        elif kind in ("sum", "prod"):
            self.keep(self.combined(v, kind, dim, Reduce))
        else:
            kind = kind if kind in ("max", "min") else "max"
            self.keep(self.add(Reduce(kind, v.name, dim), v.lo, v.hi, v.err))

    def scanned(self) -> None:
        v = self.tiled()
        dim, reverse = self.draw(st.integers(0, v.type.rank - 1)), self.chance(2)
        kind = self.pick("sum", "prod", "max", "min")
        if kind in ("sum", "prod"):
            self.keep(self.combined(v, kind, dim, lambda k, x, n: Scan(k, x, n, reverse)))
        else:
            self.keep(self.add(Scan(kind, v.name, dim, reverse), v.lo, v.hi, v.err))

    # Loops.

    @contextmanager
    def loop(
        self, var: LoopVar, carries: list[tuple[str, V]], head: dict[str, Any]
    ) -> Iterator[list[Any]]:
        """The body of a ``for``; the list yielded takes what is carried on."""
        outer, pool, values = self.body, list(self.pool), dict(self.scope.values)
        self.body = []
        inits = tuple((n, v.name) for n, v in carries)
        results = tuple(f"r{self.count}_{n}" for n, _ in carries)
        statement = For(var, (), inits, results, **head)
        self.scope.enter(statement)
        self.indices.append(var)
        on: list[Any] = []
        yield on
        self.indices.pop()
        if carries:
            self.body.append(Yield(tuple(v.name for v in on)))
        outer.append(replace(statement, body=tuple(self.body)))
        del self.scope.loops[var.name]
        self.body, self.pool = outer, pool
        types = {r: v.type for r, v in zip(results, on, strict=True)}
        self.scope.values = {**values, **types}
        on[:] = [replace(v, name=r) for r, v in zip(results, on, strict=True)]

    def reduction_loop(self) -> None:
        """A loop over K that carries a sum or an extreme of what each iteration computes."""
        var = self.loop_var("k", Dim("K"), "K")
        ends = [v for v in self.indices if v.tile is not None and self.sizes["K"] >= 1]
        if ends and self.chance(4):
            var = replace(var, hi=Call("min", (Dim("K"), Call("end", (Var(ends[0].name),)))))
        grid = list(self.indices)
        with_dot = len(grid) == 2 and var.tile and all(v.tile for v in grid) and self.chance(2)
        shape = tuple(v.tile for v in (grid if with_dot else grid[:1]) if v.tile)
        fn = "add" if with_dot else self.pick("add", "max", "min")
        init = self.add(Full(0.0, TileType(F32, shape)), 0.0, 0.0)
        head = {"stages": self.pick(1, 1, 2, 3)}
        carries = [(f"acc{self.count}", init)]
        with self.loop(var, carries, head) as on:
            acc = replace(init, name=carries[0][0])
            if with_dot:
                on.append(self.dotted(acc, grid, var))
            else:
                self.steps(self.pick(0, 1, 2))
                term = self.term(grid[0], var, shape)
                new = self.arithmetic(fn, acc, term)
                n = self.trips["k"]
                if fn == "add":
                    top = n * term.size
                    err = n * (term.err + self.rounding(F32, top))
                    new = replace(new, lo=min(0.0, n * term.lo), hi=max(0.0, n * term.hi), err=err)
                else:
                    new = replace(new, lo=min(0.0, term.lo), hi=max(0.0, term.hi), err=term.err)
                on.append(new)
        self.pool.append(on[0])

    def term(self, i: LoopVar, k: LoopVar, shape: tuple[int, ...]) -> V:
        """What one iteration adds: of the carried shape."""
        p = self.input(self.pick(*self.floats), (Dim(self.dim_of(i)), Dim("K")))
        v = self.to_float(self.load(p, (Var(i.name), Var(k.name)), self.pick(0, 0.5)))
        v = self.arithmetic("mul", self.clamp(v, -2, 2), self.clamp(self.scalar(
            self.to_float(self.a_float())), -2, 2))  # fmt: skip
        if v.type.shape == shape:
            return v
        kind = self.pick("sum", "max")
        dim = v.type.rank - 1
        if kind == "sum":
            return self.combined(v, "sum", dim, Reduce)
        return self.add(Reduce("max", v.name, dim), v.lo, v.hi, v.err)

    def dotted(self, acc: V, grid: list[LoopVar], k: LoopVar) -> V:
        """acc + a b, with a of i and k, b of k and j, perhaps read across."""
        d = self.pick(F32, *[f for f in self.floats if f is not DType.F64])
        a = self.load(self.input(d, (Dim("M"), Dim("K"))), (Var("i"), Var("k")), 0)
        if self.chance(2):
            b = self.load(self.input(d, (Dim("N"), Dim("K"))), (Var("j"), Var("k")), 0)
            b = self.add(Permute(b.name, (1, 0)), b.lo, b.hi)
        else:
            b = self.load(self.input(d, (Dim("K"), Dim("N"))), (Var("k"), Var("j")), 0)
        precision = self.pick(*PRODUCT) if d is F32 else "ieee"
        n = self.trips["k"] * k.step
        size = 4.0 * n
        err = 4.0 * n * (PRODUCT[precision] + n * SINGLE)
        return self.add(Dot(a.name, b.name, acc.name, precision), -size, size, err)

    def accumulated(self, grid: list[LoopVar]) -> None:
        """Each instance adds its part to a second output; whole rows of it meet."""
        i = grid[0]
        kind = self.pick("add", "min", "max")
        d = self.pick(F32, I32)
        p = self.input(d, (Dim("M"), Dim("N")))
        v = self.load(p, (Var("i"), Var("j")), 0)
        if i.tile is not None:
            if kind == "add":
                v = self.combined(v, "sum", 0, Reduce)
            else:
                v = self.add(Reduce(kind, v.name, 0), v.lo, v.hi, v.err)
        self.outs.append(Param("z", TensorType(d, (Dim("N"),))))
        self.scope.tensors["z"] = self.outs[-1].type
        n = self.trips["i"]
        total = replace(
            v, err=v.err if kind != "add" else n * (v.err + self.rounding(d, n * v.size))
        )
        self.store(Accumulate(kind, v.name, "z", (Var("j"),)), total)

    def store(self, op: Store | Accumulate, v: V) -> None:
        self.scope.define(op)
        self.body.append(op)
        self.errors[op.tensor] = v.err
