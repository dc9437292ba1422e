"""What an importer builds: values that know their elements, and the equations behind them."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ke_ir.expr import FUNCTIONS, Call, Expr, Num, Range, Reduce, Ref, Var
from ke_ir.index_maps import Spans, number
from ke_ir.intervals import Interval
from ke_ir.ir import Equation
from ke_ir.parse_expr import RESERVED
from ke_ir.types import DType

Index = Sequence[Expr]
At = Callable[[Index], Expr]


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: ``at`` gives the expression of one element.

    ``tensor`` names the input or equation that it is, element by element; it is empty for a view.
    """

    shape: tuple[Expr, ...]
    dtype: DType
    at: At
    tensor: str = ""

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: Index) -> Expr:
        return self.at(index)

    def view(self, shape: Iterable[Expr], where: Callable[[Index], Index]) -> Value:
        """Another shape of the same elements: ``where`` gives the index in this one."""
        return Value(tuple(shape), self.dtype, lambda i: self.at(where(i)))


@dataclass(frozen=True)
class Draw:
    """Random numbers that a graph asks for, which whoever calls the program draws beforehand.

    ``kind`` is ``bernoulli`` (probability of true), ``uniform`` (low, high) or ``normal`` (mean,
    deviation), with its ``parameters``.
    """

    name: str
    kind: str
    parameters: tuple[float, ...]
    shape: tuple[Expr, ...]
    dtype: DType

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(f'{p:g}' for p in self.parameters)})"


def constant(value: int | float | bool, dtype: DType, shape: Sequence[Expr] = ()) -> Value:
    """A tensor of one number, of which nothing is stored."""
    return Value(tuple(shape), dtype, lambda _: literal(value, dtype))


def literal(value: int | float | bool, dtype: DType) -> Expr:
    """A number as an expression of the dtype's kind."""
    if dtype.is_bool:
        from ke_ir.expr import Bin

        return Bin("==", Num(0), Num(0 if value else 1))
    if value != value:
        return Num(math.nan)  # one object, so that equal expressions compare equal
    return Num(float(value)) if dtype.is_float else Num(int(value))


def numeric(e: Expr, dtype: DType) -> Expr:
    """An element as a number: conditions become 1 and 0."""
    return Call("select", (e, Num(1), Num(0))) if dtype.is_bool else e


class Builder:
    """Collects equations. Index names are chosen so that none is a tensor's or a dim's."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self.equations: list[Equation] = []
        self.draws: list[Draw] = []
        self.types: dict[str, tuple[tuple[Expr, ...], DType]] = {}
        self.taken = {*reserved, *FUNCTIONS, *RESERVED}
        self.spans: dict[str, Interval] = {}
        self._letters: list[str] = []

    def name(self, wanted: str) -> str:
        """A free name like the one wanted."""
        base = "".join(c if c.isalnum() or c == "_" else "_" for c in wanted)
        if not base or base[0].isdigit():
            base = f"t{base}"
        name, n = base, 1
        while name in self.taken:
            n += 1
            name = f"{base}_{n}"
        self.taken.add(name)
        return name

    def tensor(self, name: str, shape: Sequence[Expr], dtype: DType) -> Value:
        """The value of an input, or of the equation of that name."""
        return Value(tuple(shape), dtype, lambda i: Ref(name, tuple(i)), name)

    def draw(
        self, wanted: str, kind: str, shape: Sequence[Expr], dtype: DType, *of: float
    ) -> Value:
        """An input of random numbers, as ``Draw`` says."""
        made = Draw(self.name(wanted), kind, of, tuple(shape), dtype)
        self.draws.append(made)
        return self.tensor(made.name, shape, dtype)

    def define(
        self, wanted: str, shape: Sequence[Expr], dtype: DType, body: At, reserved: bool = False
    ) -> Value:
        """A new equation; ``body`` gives an element.

        ``reserved``: the name is one that ``name`` gave, for equations that are read before they
        are defined.
        """
        self.spans = {}
        self._letters = [c for c in "ijklmnpqrstuvwxyz" if c not in self.taken]
        index = [self.index(n) for n in shape]
        ranges = tuple(Range(v.name, Num(0), n) for v, n in zip(index, shape, strict=True))
        rhs = body(index)
        name = wanted if reserved else self.name(wanted)
        self.equations.append(Equation(name, ranges, rhs))
        self.types[name] = (tuple(shape), dtype)
        return self.tensor(name, shape, dtype)

    def stored(self, v: Value, wanted: str) -> Value:
        """The value as an equation of its own, if it is only a view."""
        return v if v.tensor else self.define(wanted, v.shape, v.dtype, v.at)

    def index(self, size: Expr) -> Var:
        """A new index of the equation being built."""
        if not self._letters:
            self._letters = [f"{c}{len(self.spans)}" for c in string.ascii_lowercase]
            self._letters = [n for n in self._letters if n not in self.taken]
        name = self._letters.pop(0)
        n = number(size)
        self.spans[name] = Interval(0, None if n is None else n - 1)
        return Var(name)

    def reduce(self, kind: str, sizes: Sequence[Expr], body: At) -> Expr:
        """A reduction over indices from 0; without any, the body itself."""
        index = [self.index(n) for n in sizes]
        inner = body(index)
        if not index:
            return inner
        ranges = tuple(Range(v.name, Num(0), n) for v, n in zip(index, sizes, strict=True))
        return Reduce(kind, ranges, inner)

    def bounded(self, kind: str, lo: Expr, hi: Expr, body: Callable[[Expr], Expr]) -> Expr:
        """A reduction over one index between bounds that may depend on other indices."""
        index = self.index(hi)
        self.spans[index.name] = Interval(0, None)
        return Reduce(kind, (Range(index.name, lo, hi),), body(index))

    @property
    def known(self) -> Spans:
        """What values the indices of the equation being built take."""
        return self.spans
