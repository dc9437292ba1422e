"""One kernel as a C function: plain loops over tiles.

A tile is a static array, so that none is too large for the stack and the compiler knows that no two
overlap; a scalar is a local. f16, bf16 and fp8 are held in ``float`` and rounded after every op.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ke_gen_c99.text import flat, integer, is_narrow, literal, pointer, register, rounded
from ke_ir.expr import Expr, Var, evaluate_int
from ke_ir.intervals import Interval, interval
from ke_ir.ir import For, Kernel, LoopVar, Parallel, Yield, statements
from ke_ir.numerics import compute_dtype, identity
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
    Load,
    Op,
    Operand,
    Permute,
    Reduce,
    Reshape,
    Scan,
    Select,
    Stmt,
    Store,
    Unary,
)
from ke_ir.printer import print_op
from ke_ir.scope import Axis, TypeScope
from ke_ir.types import DType, TileType
from targets.base import IllegalProgram

_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_COMBINE = {
    "sum": "{} + {}", "add": "{} + {}", "prod": "{} * {}", "min": "MIN({}, {})",
    "max": "MAX({}, {})", "any": "{} || {}", "all": "{} && {}",
}  # fmt: skip
_BINARY = {
    "add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "div": "{} / {}", "min": "MIN({}, {})",
    "max": "MAX({}, {})", "and": "{} & {}", "or": "{} | {}", "xor": "{} ^ {}",
    "floordiv": "floordiv({}, {})", "mod": "floormod({}, {})", "shl": "shl({}, {})",
    "shr": "shr({}, {})", "pow": "pow$({}, {})",
}  # fmt: skip
_FLOAT_UNARY = {
    "rsqrt": "1 / sqrt$({})", "sigmoid": "1 / (1 + exp$(-{}))", "abs": "fabs$({})", "neg": "-{}",
    "round": "rint$({})",
}  # fmt: skip
"""``$`` is the suffix of the C library's functions of ``float``. Other names are the library's."""
_INTEGER_UNARY = {"abs": "{0} < 0 ? -{0} : {0}", "neg": "-{}", "not": "~{}"}


class KernelText:
    """Writes one kernel. Use once: ``KernelText(kernel, fixed, limit).text()``."""

    def __init__(self, kernel: Kernel, fixed: Mapping[str, int], limit: int) -> None:
        self.kernel, self.fixed, self.limit = kernel, fixed, limit
        self.scope = TypeScope(kernel)
        self.names: dict[str, str] = {}
        self.taken: dict[str, int] = {}
        self.spans: dict[str, Interval] = {}
        self.tile_bytes = 0
        self.lines: list[str] = []
        self.depth = 1

    def text(self) -> str:
        """The function. Raises IllegalProgram."""
        outs = {p.name for p in self.kernel.outputs}
        params = [pointer(n, t, n not in outs) for n, t in self.kernel.tensors.items()]
        params += [f"int64_t d_{d.name}" for d in self.kernel.dims if d.name not in self.fixed]
        for name, size in self.fixed.items():
            self._line(f"const int64_t d_{name} = {size};")
        for s in statements(self.kernel.body):
            if isinstance(s, Accumulate):
                self._start(s)
        self._body(self.kernel.body)
        if self.tile_bytes > self.limit:
            raise IllegalProgram(
                f"the tiles of @{self.kernel.name} are too large",
                f"they take {self.tile_bytes:,} bytes and {self.limit:,} are allowed",
                "use smaller tiles",
            )
        head = f"static void k_{self.kernel.name}({', '.join(params)}) {{"
        return "\n".join([head, *self.lines, "}"])

    # ---- lines, loops, names ------------------------------------------------------------------

    def _line(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    @contextmanager
    def _block(self, head: str) -> Iterator[None]:
        self._line(f"{head} {{")
        self.depth += 1
        yield
        self.depth -= 1
        self._line("}")

    @contextmanager
    def _each(self, shape: Sequence[int], prefix: str = "e") -> Iterator[tuple[str, ...]]:
        """Loops over all places of a tile (none for a scalar); gives the names of the places."""
        at = tuple(f"{prefix}{i}" for i in range(len(shape)))
        for e, size in zip(at, shape, strict=True):
            self._line(f"for (int {e} = 0; {e} < {size}; ++{e}) {{")
            self.depth += 1
        yield at
        for _ in at:
            self.depth -= 1
            self._line("}")

    def _declare(self, name: str, t: TileType) -> str:
        """A C variable for a value; where the name is taken, a number makes it another."""
        count = self.taken[name] = self.taken.get(name, 0) + 1
        variable = f"v{count if count > 1 else ''}_{name}"
        size = t.elements * compute_dtype(t.dtype).itemsize
        if t.shape:
            self.tile_bytes += size
        static, length = ("static ", f"[{t.elements}]") if t.shape else ("", "")
        self._line(f"{static}{register(t.dtype)} {variable}{length};")
        return variable

    def _define(self, s: Op) -> tuple[str, TileType]:
        """A new variable for the result of an op."""
        assert s.result is not None
        t = self.scope.values[s.result]
        self.names[s.result] = self._declare(s.result, t)
        return self.names[s.result], t

    def _map(self, s: Op, element: Callable[[tuple[str, ...]], str]) -> None:
        """An op each of whose elements is an expression of its place."""
        variable, t = self._define(s)
        with self._each(t.shape) as at:
            self._line(f"{variable}{flat(at, t.shape)} = {element(at)};")

    def _read(self, x: Operand, at: Sequence[str], d: DType) -> str:
        """An element of an operand; a literal takes dtype ``d``."""
        if not isinstance(x, str):
            return literal(x, d)
        shape = self.scope.values[x].shape
        return self.names[x] + flat(at if shape else (), shape)

    def _copy(self, variable: str, t: TileType, source: str) -> None:
        """Set a variable from another of its type (their names begin with v) or from a literal."""
        with self._each(t.shape) as at:
            place = flat(at, t.shape)
            self._line(f"{variable}{place} = {source}{place if source[0] == 'v' else ''};")

    def _type(self, *xs: Operand) -> TileType:
        """The type of the first operand that is not a literal: their dtype is one."""
        return next(t for x in xs if (t := self.scope.type_of(x)) is not None)

    # ---- loops of the kernel ------------------------------------------------------------------

    def _body(self, body: Sequence[Stmt]) -> None:
        for s in body:
            if isinstance(s, Parallel):
                self._parallel(s)
            elif isinstance(s, For):
                self._for(s)
            elif isinstance(s, Op):
                self.scope.define(s)
                emit = _EMIT.get(type(s))
                if emit is None:
                    raise self._refused(s, "this op is not known here")
                emit(self, s)

    def _refused(self, s: Op, why: str, fix: str = "") -> IllegalProgram:
        return IllegalProgram(f"c99 cannot do `{print_op(s)}` of @{self.kernel.name}", why, fix)

    def _head(self, v: LoopVar) -> str:
        lo, hi = (integer(e, self._scalar, self.scope.loops) for e in (v.lo, v.hi))
        i, end = f"i_{v.name}", f"end_{v.name}"
        low, high = (interval(e, self.fixed, self.spans) for e in (v.lo, v.hi))
        self.spans[v.name] = Interval(low.lo, None if high.hi is None else high.hi - 1)
        return f"for (int64_t {i} = {lo}, {end} = {hi}; {i} < {end}; {i} += {v.step})"

    def _parallel(self, s: Parallel) -> None:
        """One core may take the iterations in any order, so ``order`` says nothing here."""
        heads = [self._head(v) for v in s.vars]
        self.scope.enter(s)
        for head in heads:
            self._line(f"{head} {{")
            self.depth += 1
        self._body(s.body)
        for _ in heads:
            self.depth -= 1
            self._line("}")
        self.scope.leave(s)

    def _for(self, s: For) -> None:
        head = self._head(s.var)
        carried = []
        for result, (_, init) in zip(s.results, s.carries, strict=True):
            t = self._type(init)
            carried.append((self._declare(result, t), t))
            self._copy(*carried[-1], self.names[str(init)])
        self.scope.enter(s)
        for (name, _), (variable, _) in zip(s.carries, carried, strict=True):
            self.names[name] = variable
        with self._block(head):
            self._body(s.body)
            if s.body and isinstance(s.body[-1], Yield):
                self._yield(s.body[-1], carried)
        self.scope.leave(s)
        for result, (variable, _) in zip(s.results, carried, strict=True):
            self.names[result] = variable

    def _yield(self, s: Yield, carried: Sequence[tuple[str, TileType]]) -> None:
        """Carried values may change places, so one that is still to be read is saved first."""
        targets = {variable for variable, _ in carried}
        sources = []
        for (variable, t), x in zip(carried, s.values, strict=True):
            source = self._read(x, (), t.dtype) if not isinstance(x, str) else self.names[x]
            if source in targets - {variable}:
                saved = self._declare("saved", t)
                self._copy(saved, t, source)
                source = saved
            sources.append(source)
        for (variable, t), source in zip(carried, sources, strict=True):
            if source != variable:
                self._copy(variable, t, source)

    # ---- tensor memory ------------------------------------------------------------------------

    def _scalar(self, name: str) -> str:
        return f"i_{name}" if name in self.scope.loops else f"(int64_t){self.names[name]}"

    def _access(
        self, tensor: str, coords: Sequence[Expr], axes: Sequence[Axis], at: Sequence[str]
    ) -> tuple[str, str]:
        """The element that a place of the tile stands for, and when there is one ("": always)."""
        places = {a.index: e for a, e in zip(axes, at, strict=True) if a.index}
        spread = [e for a, e in zip(axes, at, strict=True) if a.tiles]

        def leaf(name: str) -> str:
            if name in self.scope.loops:
                return f"(i_{name} + {places[name]})" if name in places else f"i_{name}"
            shape = self.scope.values[name].shape
            return f"(int64_t){self.names[name]}{flat(spread[len(spread) - len(shape) :], shape)}"

        live = [f"i_{n} + {e} < end_{n}" for n, e in places.items() if self._may_pass_end(n)]
        offset = ""
        for c, size in zip(coords, self.scope.tensor(tensor).shape, strict=True):
            x, extent = integer(c, leaf, {}), integer(size, self._scalar, {})
            reach, most = (interval(e, self.fixed, self.spans) for e in (c, size))
            if reach.lo is None or reach.lo < 0:
                live.append(f"{x} >= 0")
            whole = isinstance(c, Var) and c.name in places and self.scope.loops[c.name].hi == size
            if not whole and (reach.hi is None or most.lo is None or reach.hi >= most.lo):
                live.append(f"{x} < {extent}")
            offset = f"({offset}) * {extent} + {x}" if offset else x
        return f"t_{tensor}[{offset or 0}]", " && ".join(dict.fromkeys(live))

    def _may_pass_end(self, name: str) -> bool:
        """Whether the last tile of a loop may reach past its end."""
        v = self.scope.loops[name]
        try:
            return (evaluate_int(v.hi, self.fixed) - evaluate_int(v.lo, self.fixed)) % v.step != 0
        except (KeyError, ValueError):  # a run-time argument, a value, or an end of another tile
            return True

    def _load(self, s: Load) -> None:
        axes, d = self.scope.access(s.coords), s.type.dtype
        fill = rounded(literal(s.fill, d), d) if s.fill else "0"

        def element(at: tuple[str, ...]) -> str:
            place, live = self._access(s.tensor, s.coords, axes, at)
            value = f"decode_{d}({place})" if is_narrow(d) else place
            return f"{live} ? {value} : {fill}" if live else value

        self._map(s, element)

    def _write(self, s: Store | Accumulate, value: Callable[[str, str, DType], str]) -> None:
        axes, d = self.scope.access(s.coords), self.scope.tensor(s.tensor).dtype
        with self._each([a.size for a in axes]) as at:
            place, live = self._access(s.tensor, s.coords, axes, at)
            old = f"decode_{d}({place})" if is_narrow(d) else place
            new = value(old, self._read(s.x, at, d), d)
            new = f"encode_{d}({new})" if is_narrow(d) else new
            self._line(f"{f'if ({live}) ' if live else ''}{place} = {new};")

    def _store(self, s: Store) -> None:
        self._write(s, lambda old, x, d: x)

    def _accumulate(self, s: Accumulate) -> None:
        self._write(s, lambda old, x, d: _COMBINE[s.kind].format(old, x))

    def _start(self, s: Accumulate) -> None:
        """What is accumulated into starts from the identity of its operation."""
        t = self.kernel.tensors[s.tensor]
        if t.dtype is DType.F8E4M3 and s.kind != "add":
            raise self._refused(s, "f8e4m3 has no infinity to start from", "accumulate into f16")
        first = literal(identity(s.kind, compute_dtype(t.dtype)).item(), t.dtype)
        count = " * ".join(integer(e, self._scalar, {}) for e in t.shape) or "1"
        with self._block(f"for (int64_t e = 0; e < {count}; ++e)"):
            first = f"encode_{t.dtype}({first})" if is_narrow(t.dtype) else first
            self._line(f"t_{s.tensor}[e] = {first};")

    # ---- tiles --------------------------------------------------------------------------------

    def _full(self, s: Full) -> None:
        d = s.type.dtype
        if isinstance(s.value, Expr):
            value = rounded(integer(s.value, self._scalar, {}), d, exact=False)
        else:
            value = rounded(literal(s.value, d), d)
        self._map(s, lambda at: value)

    def _iota(self, s: Iota) -> None:
        self._map(s, lambda at: " + ".join([f"i_{s.index}", *at]))

    def _unary(self, s: Unary) -> None:
        t = self._type(s.x)
        if s.fn == "not" and t.dtype.is_bool:
            form = "!{}"
        elif t.dtype.is_float:
            form = _FLOAT_UNARY.get(s.fn, s.fn + "$({})")
        else:
            form = _INTEGER_UNARY[s.fn]
        self._elementwise(s, form, s.x)

    def _binary(self, s: Binary) -> None:
        self._elementwise(s, _BINARY[s.fn], s.x, s.y)

    def _cmp(self, s: Cmp) -> None:
        self._elementwise(s, f"{{}} {_COMPARE[s.pred]} {{}}", s.x, s.y)

    def _elementwise(self, s: Unary | Binary | Cmp, form: str, *xs: Operand) -> None:
        d = self._type(*xs).dtype
        form = form.replace("$", "" if d is DType.F64 else "f")
        result = DType.I1 if isinstance(s, Cmp) else d
        self._map(s, lambda at: rounded(form.format(*(self._read(x, at, d) for x in xs)), result))

    def _select(self, s: Select) -> None:
        d = self._type(s.x, s.y).dtype

        def element(at: tuple[str, ...]) -> str:
            c, x, y = self._read(s.c, at, DType.I1), self._read(s.x, at, d), self._read(s.y, at, d)
            return f"{c} ? {x} : {y}"

        self._map(s, element)

    def _cast(self, s: Cast) -> None:
        d = self._type(s.x).dtype
        exact = is_narrow(d) or d in (DType.F32, DType.I1)
        zero = " != 0" if s.dtype.is_bool else ""
        self._map(s, lambda at: rounded(self._read(s.x, at, d) + zero, s.dtype, exact))

    def _broadcast(self, s: Broadcast) -> None:
        self._map(s, lambda at: self._read(s.x, at, s.type.dtype))

    def _permute(self, s: Permute) -> None:
        d, places = self._type(s.x).dtype, [s.order.index(i) for i in range(len(s.order))]
        self._map(s, lambda at: self._read(s.x, [at[i] for i in places], d))

    def _reshape(self, s: Reshape | Expand) -> None:
        """The same elements in the same order: another name for the variable, if both are tiles."""
        assert s.result is not None
        t, result = self._type(s.x), self.scope.values[s.result]
        if t.shape and result.shape:
            self.names[s.result] = self.names[str(s.x)]
        else:
            self._map(s, lambda at: self._read(s.x, ["0"] * t.rank, t.dtype))

    def _along(self, s: Reduce | Scan, at: Sequence[str]) -> Callable[[str], str]:
        """The operand at one place of the dimension that is combined; ``at`` has the others."""
        d = self._type(s.x).dtype
        return lambda r: self._read(s.x, (*at[: s.dim], r, *at[s.dim :]), d)

    def _reduce(self, s: Reduce) -> None:
        t = self._type(s.x)
        variable, result = self._define(s)
        got = self._declare("got", TileType(result.dtype))
        with self._each(result.shape) as at:
            x = self._along(s, at)
            if s.kind.startswith("arg"):
                better = f"{x('r')} {'>' if s.kind == 'argmax' else '<'} {x(got)}"
                first, step = "0", f"if ({better}) {got} = r"
            else:
                first, step = x("0"), f"{got} = {_COMBINE[s.kind].format(got, x('r'))}"
            self._line(f"{got} = {first};")
            self._line(f"for (int r = 1; r < {t.shape[s.dim]}; ++r) {step};")
            self._line(f"{variable}{flat(at, result.shape)} = {rounded(got, result.dtype)};")

    def _scan(self, s: Scan) -> None:
        variable, t = self._define(s)
        got = self._declare("got", TileType(t.dtype))
        size = t.shape[s.dim]
        with self._each(t.shape[: s.dim] + t.shape[s.dim + 1 :]) as at:
            x = self._along(s, at)
            self._line(f"{got} = {x(str(size - 1 if s.reverse else 0))};")
            with self._block(f"for (int r = 0; r < {size}; ++r)"):
                self._line(f"const int p = {f'{size - 1} - r' if s.reverse else 'r'};")
                self._line(f"if (r) {got} = {_COMBINE[s.kind].format(got, x('p'))};")
                place = flat((*at[: s.dim], "p", *at[s.dim :]), t.shape)
                self._line(f"{variable}{place} = {rounded(got, t.dtype)};")

    def _dot(self, s: Dot) -> None:
        if s.precision != "ieee":
            raise self._refused(
                s, f"C99 has no product at precision {s.precision}", "use `precision ieee`"
            )
        a = self._type(s.a)
        variable, t = self._define(s)
        with self._each(t.shape[:-1]) as at:
            columns = f"for (int n = 0; n < {t.shape[-1]}; ++n)"
            row = variable + flat((*at, "n"), t.shape)
            start = "0" if s.acc is None else self._read(s.acc, (*at, "n"), t.dtype)
            self._line(f"{columns} {row} = {start};")
            with self._block(f"for (int k = 0; k < {a.shape[-1]}; ++k)"):
                x = self._read(s.a, (*at, "k"), a.dtype)
                y = self._read(s.b, (*at[:-1], "k", "n"), a.dtype)
                self._line(f"const {register(t.dtype)} x = {x};")
                self._line(f"{columns} {row} += x * {y};")


_EMIT: dict[type[Op], Callable[[KernelText, Any], None]] = {
    Load: KernelText._load, Store: KernelText._store, Accumulate: KernelText._accumulate,
    Full: KernelText._full, Iota: KernelText._iota, Unary: KernelText._unary,
    Binary: KernelText._binary, Cmp: KernelText._cmp, Select: KernelText._select,
    Cast: KernelText._cast, Reduce: KernelText._reduce, Scan: KernelText._scan,
    Dot: KernelText._dot, Reshape: KernelText._reshape, Expand: KernelText._reshape,
    Permute: KernelText._permute, Broadcast: KernelText._broadcast,
}  # fmt: skip
