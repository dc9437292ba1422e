"""``reference()``: an op's equations as the plain PyTorch that a user would write.

Every expression becomes a tensor over a list of axes, aligned at the right as PyTorch broadcasts:
leading axes that it does not depend on are left out, others have size 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ke_ir.expr import (
    COMPARISONS,
    LEVEL,
    Bin,
    Call,
    Dim,
    Expr,
    Neg,
    Num,
    Range,
    Reduce,
    Ref,
    Var,
    dims_of,
    evaluate_int,
    variables,
    walk,
)
from ke_ir.ir import OpDef
from ke_ir.ranges import EquationRanges, infer_ranges
from ke_ir.types import DType
from lowering.triton.bounds import Bounds, Interval, Poly
from lowering.triton.reference_scalars import number, python_function
from lowering.triton.sizes import SizeText
from lowering.triton.values import F8, declared_torch
from lowering.triton.writer import WIDTH, assignment, call, tuple_text

_ATOM = 9
_TENSOR_FUNCTIONS = {
    "exp", "exp2", "log", "log2", "sqrt", "rsqrt", "sin", "cos", "tan", "tanh", "sigmoid", "erf",
    "floor", "ceil", "round", "trunc",
}  # fmt: skip
_ROUNDING = ("floor", "ceil", "round", "trunc")


@dataclass(frozen=True)
class Tensor:
    """A translated expression.

    ``kind`` is ``float``, ``int`` or ``bool``; ``axes`` those it really extends along; ``rank`` how
    many trailing axes its shape has (0 also for a Python number, then ``plain``); ``dtype`` what
    PyTorch's promotion gives with inputs as declared (None for a Python number); ``level`` the
    binding level of its text.
    """

    text: str
    kind: str
    axes: frozenset[str] = frozenset()
    rank: int = 0
    dtype: DType | None = None
    level: int = _ATOM
    plain: bool = False

    def at(self, level: int) -> str:
        """The text where something binds at ``level``."""
        return self.text if self.level >= level else f"({self.text})"


class Reference:
    """Writes ``reference()`` for an op."""

    def __init__(self, op: OpDef, sizes: SizeText, bounds: Bounds) -> None:
        self.op, self.sizes, self.bounds = op, sizes, bounds
        self.names = sizes.names
        self.found = infer_ranges(op)
        self.tensors: dict[str, Tensor] = {}
        self.lines: list[str] = []
        self.aranges: dict[tuple[str, str], str] = {}
        self.device = ""
        for p in op.inputs:
            kind = _kind(p.type.dtype)
            wide = DType.F32 if p.type.dtype in F8 else p.type.dtype
            self.tensors[p.name] = Tensor(sizes.tensors[p.name], kind, dtype=wide)
        self.ranges: Mapping[str, tuple[Expr, Expr]] = {}
        # Inside a reduction over jagged rows: index -> its values in a flat axis, and that axis.
        self.flat: dict[str, tuple[str, str]] = {}
        self.flat_sizes: dict[str, str] = {}
        self.env: dict[str, Interval] = {}
        self.width = WIDTH - 4

    # -- the function --------------------------------------------------------------------------
    def text(self) -> str:
        """The whole function."""
        if self.found.recurrences:
            from lowering.triton.reference_steps import with_steps

            with_steps(self)
        else:
            for er in self.found.equations:
                self.equation(er)
        args = [self.sizes.tensors[p.name] for p in self.op.inputs]
        head = f"def reference({', '.join(args)}):"
        doc = '    """The same in plain PyTorch, in the precision of its inputs."""'
        body = [*self.sizes.lines(), *self._widened(), *self.lines, self._result()]
        return "\n".join([head, doc, *(f"    {x}" for line in body for x in line.split("\n"))])

    def _widened(self) -> list[str]:
        """Integers are exact; PyTorch has no arithmetic on fp8."""
        out = []
        for p in self.op.inputs:
            name = self.sizes.tensors[p.name]
            if p.type.dtype in F8:
                out.append(f"{name} = {name}.float() if {name}.dtype.itemsize == 1 else {name}")
            elif p.type.dtype.is_int and p.type.dtype is not DType.I64:
                out.append(f"{name} = {name}.long()")
        return out + self._shared()

    def _shared(self) -> list[str]:
        out = []
        if self.aranges or self.device:
            device = "torch.get_default_device()"
            if self.op.inputs:
                device = f"{self.sizes.tensors[self.op.inputs[0].name]}.device"
            out.append(f"device = {device}")
        for (lo, hi), name in self.aranges.items():
            start = "" if lo == "0" else f"{lo}, "
            out.append(f"{name} = torch.arange({start}{hi}, device=device)")
        return out

    def _result(self) -> str:
        floats = [p for p in self.op.inputs if p.type.dtype.is_float]
        floats.sort(key=lambda p: p.type.dtype is DType.F64)  # one that float64 tells apart
        results = []
        for p in self.op.outputs:
            value = self.tensors[p.name].text
            narrow = f"{value}.to({declared_torch(p.type.dtype)})"
            if p.type.dtype.is_float and floats:
                x = self.sizes.tensors[floats[0].name]
                results.append(f"{value} if {x}.dtype == torch.float64 else {narrow}")
            else:
                results.append(narrow)
        if len(results) == 1:
            return f"return {results[0]}"
        return call("return ", [f"({r})" if " if " in r else r for r in results], WIDTH - 8)

    def equation(self, er: EquationRanges, name: str = "") -> None:
        """Write an equation's value under ``name``, or the target's own."""
        eq = er.equation
        self.ranges, self.flat = er.ranges, {}
        self.env = {n: self._interval(lo, hi) for n, (lo, hi) in er.ranges.items()}
        axes = er.outer
        value = self.full(self.translate(eq.rhs, axes), axes)
        name = name or self.sizes.tensors.get(eq.target) or self.names.new(eq.target)
        self.lines.append(assignment(name, value.text, self.width))
        self.tensors[eq.target] = Tensor(name, value.kind, dtype=value.dtype)

    def _interval(self, lo: Expr, hi: Expr) -> Interval:
        if any(isinstance(n, Ref) for e in (lo, hi) for n in walk(e)):
            return Interval(None, None)
        last = self.bounds.interval(hi, {}).hi
        return Interval(self.bounds.interval(lo, {}).lo, None if last is None else last.plus(-1))

    def full(self, t: Tensor, axes: tuple[str, ...]) -> Tensor:
        """The tensor with every one of these axes at its true size."""
        if t.axes == frozenset(axes) and t.rank == len(axes) and not t.plain:
            return t
        if not axes and not t.plain:
            return t
        shape = tuple_text([self._extent(a) for a in axes])
        if t.plain:
            self.device = "device"
            dtype = {"float": "torch.float64", "int": "torch.int64", "bool": "torch.bool"}[t.kind]
            text = f"torch.full({shape}, {t.text}, dtype={dtype}, device=device)"
        else:
            text = f"torch.broadcast_to({t.text}, {shape})"
        return replace(t, text=text, axes=frozenset(axes), rank=len(axes), level=_ATOM, plain=False)

    def axis(self, index: str) -> str:
        """The axis that an index runs along."""
        return self.flat[index][1] if index in self.flat else index

    def _extent(self, index: str) -> str:
        if index in self.flat_sizes:
            return self.flat_sizes[index]
        lo, hi = self.ranges[index]
        return self.sizes.text(hi if lo == Num(0) else Bin("-", hi, lo))

    # -- expressions ---------------------------------------------------------------------------
    def translate(self, e: Expr, axes: tuple[str, ...]) -> Tensor:
        """An expression as a tensor over these axes."""
        match e:
            case Num(value):
                return Tensor(number(value), _number_kind(value), plain=True, level=_level(value))
            case Dim():
                return Tensor(self.sizes.text(e), "int", plain=True)
            case Var(name):
                return self._index(name, axes)
            case Neg(arg):
                x = self.translate(arg, axes)
                return replace(x, text=f"-{x.at(_ATOM)}", level=5)
            case Bin(op, lhs, rhs):
                return self._binary(op, self.translate(lhs, axes), self.translate(rhs, axes))
            case Call(fn, args):
                return self._call(fn, [self.translate(a, axes) for a in args])
            case Ref():
                return self._element(e, axes)
            case Reduce():
                from lowering.triton.reference_reduce import reduction

                return reduction(self, e, axes)
        raise TypeError(f"not an expression: {e!r}")

    def _index(self, name: str, axes: tuple[str, ...]) -> Tensor:
        """An index as a value."""
        if name in self.flat:
            variable, axis = self.flat[name]
            return self._placed(Tensor(variable, "int", dtype=DType.I64), (axis,), axes)
        lo, hi = self.ranges[name]
        key = (self.sizes.text(lo), self.sizes.text(hi))
        if key not in self.aranges:
            self.aranges[key] = self.names.new(name)
        return self._placed(Tensor(self.aranges[key], "int", dtype=DType.I64), (name,), axes)

    def _placed(self, t: Tensor, own: tuple[str, ...], axes: tuple[str, ...]) -> Tensor:
        """A tensor whose dimensions are the axes ``own``, put where those stand among ``axes``."""
        order = sorted(range(len(own)), key=lambda i: axes.index(own[i]))
        text = t.text
        if order != list(range(len(own))):
            if len(own) == 2:
                text = f"{text}.T"
            else:
                text = f"{text}.permute({', '.join(map(str, order))})"
        first = min((axes.index(n) for n in own), default=len(axes))
        places = [":" if a in own else "None" for a in axes[first:]]
        if "None" in places:
            text += f"[{', '.join(places)}]"
        return replace(t, text=text, axes=frozenset(own), rank=len(axes) - first, level=_ATOM)

    def _binary(self, op: str, a: Tensor, b: Tensor) -> Tensor:
        mine = LEVEL[op]
        if op in ("and", "or"):
            symbol = "&" if op == "and" else "|"
            return self._joined(f"{a.at(_ATOM)} {symbol} {b.at(_ATOM)}", "bool", 0, a, b)
        if op in COMPARISONS:
            return self._joined(f"{a.at(mine + 1)} {op} {b.at(mine + 1)}", "bool", mine, a, b)
        kind = "float" if "float" in (a.kind, b.kind) or op == "/" else "int"
        if kind == "float":
            a, b = self._mixed(a, b), self._mixed(b, a)
            if op == "/" and a.kind != "float" and b.kind != "float":
                a = self.as_float(a)
        return self._joined(f"{a.at(mine)} {op} {b.at(mine + 1)}", kind, mine, a, b)

    def _mixed(self, x: Tensor, other: Tensor) -> Tensor:
        """An integer tensor beside a Python float would become float32: make it float64."""
        return self.as_float(x) if other.plain and other.kind == "float" else x

    def as_float(self, x: Tensor) -> Tensor:
        if x.kind == "float" or x.plain:
            return x
        return replace(
            x, text=f"{x.at(_ATOM)}.double()", kind="float", dtype=DType.F64, level=_ATOM
        )

    def _joined(self, text: str, kind: str, level: int, *parts: Tensor) -> Tensor:
        dtype: DType | None = None
        for p in parts:
            dtype = promoted(dtype, p.dtype)
        if kind == "bool" and not all(p.plain for p in parts):
            dtype = DType.I1
        return Tensor(text, kind, frozenset().union(*(p.axes for p in parts)),
                      max(p.rank for p in parts), dtype, level,
                      all(p.plain for p in parts))  # fmt: skip

    def _call(self, fn: str, args: list[Tensor]) -> Tensor:
        if fn == "select":
            return self.select(*args)
        if all(a.plain for a in args):
            text, level = python_function(fn, [a.text for a in args])
            kind = args[0].kind if fn in ("abs", "min", "max") else "float"
            return Tensor(text, kind, plain=True, level=level)
        if fn in ("min", "max"):
            return self._extreme(fn, *args)
        if fn == "pow":
            a, b = (self.as_float(x) for x in args)
            return self._joined(f"{a.at(_ATOM)} ** {b.at(_ATOM)}", "float", 5, a, b)
        (x,) = args
        if fn == "not":
            return self._joined(f"~{x.at(_ATOM)}", "bool", 5, x)
        if fn == "abs" or (fn in _ROUNDING and x.kind != "float"):
            return self._joined(f"torch.abs({x.text})" if fn == "abs" else x.text, x.kind,
                                _ATOM if fn == "abs" else x.level, x)  # fmt: skip
        x = self.as_float(x)
        return self._joined(f"torch.{fn}({x.text})", "float", _ATOM, x)

    def _extreme(self, fn: str, a: Tensor, b: Tensor) -> Tensor:
        kind = "float" if "float" in (a.kind, b.kind) else "int"
        if a.plain:
            a, b = b, a
        if kind == "float":
            a = self._mixed(a, b)
        if b.plain:
            return self._joined(f"{a.at(_ATOM)}.clamp({fn_bound(fn)}={b.text})", kind, _ATOM, a, b)
        return self._joined(f"torch.{fn}imum({a.text}, {b.text})", kind, _ATOM, a, b)

    def select(self, c: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """``a`` where ``c`` holds, else ``b``."""
        kind = "float" if "float" in (a.kind, b.kind) else a.kind
        if kind == "float":
            a, b = self._mixed(a, b), self._mixed(b, a)
            if a.plain and b.plain and not c.plain:
                # `torch.where` of two Python floats is float32.
                self.device = "device"
                text = f"torch.tensor({a.text}, dtype=torch.float64, device=device)"
                a = Tensor(text, "float", dtype=DType.F64)
        if c.plain:
            return self._joined(f"{a.at(_ATOM)} if {c.text} else {b.at(_ATOM)}", kind, -1, a, b)
        out = self._joined(f"torch.where({c.text}, {a.text}, {b.text})", kind, _ATOM, c, a, b)
        return replace(out, dtype=promoted(a.dtype, b.dtype))

    # -- elements ------------------------------------------------------------------------------
    def is_plain(self, e: Ref) -> bool:
        """Whether an element is a whole tensor: distinct indices that cover its dimensions."""
        names = [i.name for i in e.indices if isinstance(i, Var)]
        if len(names) != len(e.indices) or len(set(names)) != len(names):
            return False
        if any(n in self.flat for n in names):
            return False
        shape = self.found.shapes[e.tensor]
        return all(self._covers(n, s) for n, s in zip(names, shape, strict=True))

    def _covers(self, index: str, size: Expr) -> bool:
        lo, hi = self.ranges[index]
        mine, whole = self.bounds.exact(hi), self.bounds.exact(size)
        return lo == Num(0) and mine is not None and mine == whole

    def _element(self, e: Ref, axes: tuple[str, ...]) -> Tensor:
        t = self.tensors[e.tensor]
        if self.is_plain(e):
            own = tuple(i.name for i in e.indices if isinstance(i, Var))
            return self._placed(t, own, axes)
        if e.fill is None and (rows := self._rows(e, axes)) is not None:
            return rows
        indices = [self.translate(i, axes) for i in e.indices]
        if e.fill is None:
            subscript = ", ".join(i.text for i in indices)
            return self._joined(f"{t.text}[{subscript}]", t.kind, _ATOM, *indices, t_value(t))
        return self._filled(e, t, indices, self.translate(e.fill, axes))

    def _rows(self, e: Ref, axes: tuple[str, ...]) -> Tensor | None:
        """Whole rows picked by computed indices: the last indices are the last axes, in full."""
        shape = self.found.shapes[e.tensor]
        count = 0
        for index, size, axis in zip(e.indices[::-1], shape[::-1], axes[::-1], strict=False):
            if index != Var(axis) or axis in self.flat or not self._covers(axis, size):
                break
            count += 1
        rest = e.indices[: len(e.indices) - count]
        inner = axes[len(axes) - count :]
        if not count or not rest or any(v in inner for i in rest for v in variables(i)):
            return None
        t = self.tensors[e.tensor]
        picks = [self.translate(i, axes[: len(axes) - count]) for i in rest]
        out = self._joined(f"{t.text}[{', '.join(p.text for p in picks)}]", t.kind, _ATOM,
                           *picks, t_value(t))  # fmt: skip
        return replace(out, axes=out.axes | set(inner), rank=out.rank + count, dtype=t.dtype)

    def _filled(self, e: Ref, t: Tensor, indices: list[Tensor], fill: Tensor) -> Tensor:
        """An element with a value outside: clamp the indices, then choose."""
        conditions, safe = [], []
        decided = True  # by Python numbers alone
        shape = self.found.shapes[e.tensor]
        for source, index, size in zip(e.indices, indices, shape, strict=True):
            below, above = self._may_leave(source, size)
            if not below and not above:
                safe.append(index.text)
                continue
            name = index.text
            if not name.isidentifier():
                name = self.names.new("at")
                self.lines.append(f"{name} = {index.text}")
            decided = decided and index.plain
            last = self.sizes.text(Bin("-", size, Num(1)))
            conditions += [f"({name} >= 0)"] * below
            conditions += [f"({name} < {self.sizes.text(size)})"] * above
            safe.append(f"{name}.clamp(0, {last})" if not index.plain else
                        f"min(max({name}, 0), {last})")  # fmt: skip
        picked = f"{t.text}[{', '.join(safe)}]"
        kind = "float" if "float" in (t.kind, fill.kind) else t.kind
        if not conditions:
            return self._joined(picked, t.kind, _ATOM, *indices, t_value(t))
        condition = " & ".join(conditions)
        condition = condition[1:-1] if len(conditions) == 1 else condition
        if decided:
            self.device = "device"
            condition = f"torch.tensor({condition}, device=device)"
        text = f"torch.where({condition}, {picked}, {fill.text})"
        out = self._joined(text, kind, _ATOM, *indices, t_value(t), fill)
        return replace(out, plain=False, dtype=promoted(t.dtype, fill.dtype))

    def _may_leave(self, index: Expr, size: Expr) -> tuple[bool, bool]:
        got = self.bounds.interval(index, self.env)
        limit = self.bounds.exact(size)
        below = not self.bounds.at_most(Poly.const(0), got.lo)
        above = not self.bounds.at_most(got.hi, None if limit is None else limit.plus(-1))
        return below, above


def t_value(t: Tensor) -> Tensor:
    """What indexing a tensor contributes to the result: its dtype."""
    return replace(t, axes=frozenset(), rank=0)


def fn_bound(fn: str) -> str:
    """``max(x, 0)`` is ``x.clamp(min=0)``."""
    return "max" if fn == "min" else "min"


def _kind(d: DType) -> str:
    return "bool" if d.is_bool else "int" if d.is_int else "float"


def _number_kind(value: int | float) -> str:
    return "bool" if isinstance(value, bool) else "int" if isinstance(value, int) else "float"


def _level(value: int | float) -> int:
    return 5 if value < 0 else _ATOM


def promoted(a: DType | None, b: DType | None) -> DType | None:
    """PyTorch's promotion of two tensors' dtypes."""
    if a is None or b is None or a is b:
        return a or b
    if a.is_float != b.is_float:
        return a if a.is_float else b
    if a.bits != b.bits:
        return a if a.bits > b.bits else b
    return DType.F32 if a.is_float else DType.I64


def free_indices(e: Expr, bound: Iterable[str]) -> list[str]:
    """Indices in an expression that are among ``bound``, in order of appearance."""
    return [n for n in variables(e) if n in set(bound)]


def static_size(e: Expr, bounds: Bounds) -> int | None:
    """A size that is the same in every call."""
    return evaluate_int(e, bounds.static) if dims_of(e) <= set(bounds.static) else None


def bounds_depend(r: Range, axes: Iterable[str]) -> bool:
    """Whether a reduction's range is not the same everywhere."""
    ends = [e for e in (r.lo, r.hi) if e is not None]
    return any(isinstance(n, Ref | Var) for e in ends for n in walk(e))
