"""The least time an op can take on a device, from the op alone: its bytes and its operations.

The counts are lower bounds, so that a time below the floor is a fault of the measurement and not
a clever kernel: every input read once and every output written once; operations under a condition
on indices only as often as it holds; under a condition on data, not at all. Nor do comparisons of
all pairs count, where data are compared with an index or with one another: scattering and sorting
make far fewer. Of what is gathered, as many different rows count as uniformly random indices touch,
which is what kernels are timed on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ke_ir.expr import (
    COMPARISONS,
    Bin,
    Call,
    Expr,
    Neg,
    Num,
    Reduce,
    Ref,
    Var,
    children,
    evaluate_int,
    walk,
)
from ke_ir.ranges import EquationRanges, infer_ranges
from search.evaluation.verdict import Roofline

if TYPE_CHECKING:
    from ke_ir.ir import OpDef
    from targets.base import HardwareSpec

_SAMPLES = 256
"""Points along each index at which a condition on indices is evaluated."""


@dataclass(frozen=True)
class OpCost:
    """``bytes`` moved at least; ``matrix_flops`` of sums of products; ``vector_flops`` of the rest.

    A multiplication and an addition count one each; so does any function.
    """

    bytes: int
    matrix_flops: float
    vector_flops: float


def op_cost(op: OpDef, dims: Mapping[str, int]) -> OpCost:
    """Lower bounds of an op's work at sizes that bind every dim."""
    return _Counter(op, dims).cost()


def roofline(
    cost: OpCost, spec: HardwareSpec, matrix_format: str, parts: int, seconds: float
) -> Roofline:
    """The floor on a device and the fraction of it that ``seconds`` reaches.

    ``matrix_format`` is what the kernel multiplies in, a key of ``spec.matrix_flops``, and
    ``parts`` how many such products make one (3 for ``tf32x3``). A format that the device's matrix
    unit lacks runs at its vector peak.
    """
    vector = max(spec.vector_flops.values())
    matrix = spec.matrix_flops.get(matrix_format, vector) / parts
    memory = cost.bytes / spec.dram_bytes_per_s
    compute = max(cost.matrix_flops / max(matrix, vector), cost.vector_flops / vector)
    floor = max(memory, compute)
    return Roofline(
        floor_seconds=floor,
        fraction=floor / seconds if seconds > 0 else math.inf,
        bound="memory" if memory >= compute else "compute",
        flops=cost.matrix_flops + cost.vector_flops,
        bytes=cost.bytes,
    )


class _Counter:
    def __init__(self, op: OpDef, dims: Mapping[str, int]) -> None:
        self.op, self.dims = op, dims
        self.inferred = infer_ranges(op)
        self.made = {er.equation.target: er for er in self.inferred.equations}
        self.recurrent = {n for r in self.inferred.recurrences for n in r.targets}
        self.needed = self._needed()

    def cost(self) -> OpCost:
        matrix = vector = 0.0
        for er in self.inferred.equations:
            m, v = self._expr(er, er.equation.rhs, set(er.outer), self.needed[er.equation.target])
            matrix, vector = matrix + m, vector + v
        return OpCost(self._bytes(), matrix, vector)

    # Which part of each intermediate anything asks for.

    def _needed(self) -> dict[str, float]:
        needed = dict.fromkeys(self.made, 0.0)
        needed.update({p.name: 1.0 for p in self.op.outputs})
        for _, equations in reversed(self.inferred.groups):
            # Equations of a recurrence ask for one another: as often as one more may be needed.
            for er in reversed(equations * len(equations)):
                share = needed[er.equation.target]
                decided_by = frozenset(er.outer) if share < 1.0 else frozenset[str]()
                self._demand(er, er.equation.rhs, share, decided_by, needed)
        return needed

    def _demand(
        self,
        er: EquationRanges,
        e: Expr,
        share: float,
        decided_by: frozenset[str],
        needed: dict[str, float],
    ) -> None:
        """Note what ``e`` asks for; ``share`` of it is needed, by conditions on ``decided_by``."""
        if isinstance(e, Ref) and e.tensor in needed:
            # Without one of those indices, an element is needed if it is for any value of it.
            whole = share > 0 and not decided_by <= _names(e)
            needed[e.tensor] = max(needed[e.tensor], 1.0 if whole else share)
        if isinstance(e, Call) and e.fn == "select":
            first, second = self._holds(er, e.args[0])
            names = decided_by | _names(e.args[0])
            self._demand(er, e.args[0], share, decided_by, needed)
            self._demand(er, e.args[1], share * first, names, needed)
            self._demand(er, e.args[2], share * second, names, needed)
            return
        if isinstance(e, Reduce) and e.kind == "sum":
            for factor in _factors(e.body):
                part = self._nonzero(factor)
                if part < 1.0:
                    share, decided_by = share * part, decided_by | _names(factor)
                    break
        for c in children(e):
            self._demand(er, c, share, decided_by, needed)

    def _holds(self, er: EquationRanges, condition: Expr) -> tuple[float, float]:
        """Shares of the index space where a condition holds and where not; 0, 0 if data decides."""
        nodes = list(walk(condition))
        if any(isinstance(n, Ref | Reduce) for n in nodes):
            return 0.0, 0.0
        names = sorted({n.name for n in nodes if isinstance(n, Var)})
        axes = [_spread(self._length(er, n)) for n in names]
        if math.prod(len(a) for a in axes) > _SAMPLES**2:
            return 0.0, 0.0
        grid = dict(zip(names, np.meshgrid(*axes, indexing="ij"), strict=True)) if names else {}
        try:
            value = _evaluate(condition, grid, self.dims)
        except (KeyError, TypeError, ZeroDivisionError):
            return 0.0, 0.0
        share = float(np.asarray(value).mean())
        return share, 1.0 - share

    def _nonzero(self, factor: Expr) -> float:
        """Share of a factor's elements that may be other than zero, as its equation says."""
        er, rhs = self._made(factor)
        if er is None:
            return 1.0
        if isinstance(rhs, Call) and rhs.fn == "select":
            return self._unless(er, rhs, (Num(0), Num(0.0)))
        if isinstance(rhs, Call) and rhs.fn in ("exp", "exp2"):
            return self._finite(er, rhs.args[0])
        if isinstance(rhs, Bin) and rhs.op in ("*", "/"):
            sides = (rhs.lhs, rhs.rhs) if rhs.op == "*" else (rhs.lhs,)
            return min(self._nonzero(f) for f in sides)
        return 1.0

    def _finite(self, er: EquationRanges, e: Expr) -> float:
        """Share of an exponent's elements that are not minus infinity."""
        if isinstance(e, Call) and e.fn == "select":
            return self._unless(er, e, (Num(-math.inf), Neg(Num(math.inf))))
        if isinstance(e, Bin) and e.op in ("-", "+", "*", "/"):
            return self._finite(er, e.lhs)
        inner, rhs = self._made(e)
        return 1.0 if inner is None else self._finite(inner, rhs)

    def _unless(self, er: EquationRanges, e: Call, values: tuple[Expr, ...]) -> float:
        """Share of a ``select`` where it does not give one of ``values``."""
        holds = self._holds(er, e.args[0])
        if e.args[2] in values:
            return holds[0]
        return holds[1] if e.args[1] in values else 1.0

    def _made(self, e: Expr) -> tuple[EquationRanges | None, Expr]:
        """The equation that makes an intermediate, and its right side; None for anything else.

        That a recurrence's values are zero does not follow from one of its equations.
        """
        if not isinstance(e, Ref) or e.tensor in self.recurrent:
            return None, e
        er = self.made.get(e.tensor)
        return er, e if er is None else er.equation.rhs

    # Operations.

    def _expr(
        self, er: EquationRanges, e: Expr, around: set[str], share: float
    ) -> tuple[float, float]:
        """Operations of ``e`` for all values of the indices it depends on, in one equation.

        A subexpression that does not depend on an index is counted once for all of its values.
        """
        if isinstance(e, Call) and e.fn == "select":
            return self._select(er, e, around, share)
        if isinstance(e, Reduce):
            return self._reduce(er, e, around, share)
        if isinstance(e, Ref):
            return 0.0, 0.0  # subscripts are addressing, which hardware does beside arithmetic
        matrix = vector = 0.0
        for c in children(e):
            m, v = self._expr(er, c, around, share)
            matrix, vector = matrix + m, vector + v
        if isinstance(e, Bin | Call) and any(isinstance(n, Ref) for n in walk(e)):
            vector += self._points(er, e, around) * share
        return matrix, vector

    def _select(
        self, er: EquationRanges, e: Call, around: set[str], share: float
    ) -> tuple[float, float]:
        first, second = self._holds(er, e.args[0])
        parts = [
            self._expr(er, arg, around, share * part)
            for arg, part in zip(e.args, (1.0, first, second), strict=True)
        ]
        return sum(p[0] for p in parts), sum(p[1] for p in parts)

    def _reduce(
        self, er: EquationRanges, e: Reduce, around: set[str], share: float
    ) -> tuple[float, float]:
        inside = around | {r.name for r in e.ranges}
        if any(_of_pairs(n) for n in walk(e.body)):
            return 0.0, 0.0
        factors = _factors(e.body)
        refs = [f for f in factors if isinstance(f, Ref)]
        if e.kind == "sum":
            share *= min((self._nonzero(f) for f in factors), default=1.0)
        points = self._points(er, e.body, inside) * share
        if e.kind == "sum" and len(refs) == 2 and len(factors) == 2 and refs[0] != refs[1]:
            return 2 * points, 0.0
        if e.kind == "sum" and len(refs) > 2:
            return 0.0, 0.0  # may be reassociated to far fewer operations
        matrix, vector = self._expr(er, e.body, inside, share)
        return matrix, vector + points

    def _points(self, er: EquationRanges, e: Expr, names: set[str]) -> float:
        """Number of values of the indices among ``names`` that ``e`` depends on.

        None need be where an index goes over rows that data chooses: they may all be empty.
        """
        used = {n.name for n in walk(e) if isinstance(n, Var) and n.name in names}
        ragged = {n for n in used if self._data_bound(er, n)}
        if any(_chosen(bound) for n in ragged for bound in er.ranges[n]):
            return 0.0
        covered = {
            v.name
            for n in ragged
            for b in er.ranges[n]
            for v in walk(b)
            if isinstance(v, Var) and v.name in used
        }
        return float(math.prod(self._length(er, n) for n in used - covered))

    def _data_bound(self, er: EquationRanges, name: str) -> bool:
        return any(isinstance(n, Ref) for b in er.ranges[name] for n in walk(b))

    def _length(self, er: EquationRanges, name: str) -> int:
        """Length of an index; for jagged rows the length of what all rows together cover."""
        lo, hi = er.ranges[name]
        try:
            return max(0, evaluate_int(hi, self.dims) - evaluate_int(lo, self.dims))
        except (KeyError, ValueError):
            sizes = [
                evaluate_int(size, self.dims)
                for ref in er.refs
                for i, size in zip(ref.indices, self.inferred.shapes[ref.tensor], strict=True)
                if isinstance(i, Var) and i.name == name
            ]
            return min(sizes, default=0)

    # Bytes.

    def _bytes(self) -> int:
        read: dict[str, float] = {}
        for er in self.inferred.equations:
            for ref in er.refs:
                read[ref.tensor] = max(read.get(ref.tensor, 0.0), self._touched(er, ref))
        total = 0
        for p in self.op.inputs:
            elements = math.prod(p.type.sizes(dict(self.dims)))
            total += int(min(elements, read.get(p.name, 0.0))) * p.type.dtype.bytes
        for p in self.op.outputs:
            total += math.prod(p.type.sizes(dict(self.dims))) * p.type.dtype.bytes
        return total

    def _touched(self, er: EquationRanges, ref: Ref) -> float:
        """Different elements of a tensor that one reference reads."""
        names = set(er.ranges)
        shape = [evaluate_int(size, self.dims) for size in self.inferred.shapes[ref.tensor]]
        scattered = [
            i for i, e in enumerate(ref.indices) if any(isinstance(n, Ref) for n in walk(e))
        ]
        if not scattered:
            return self._points(er, ref, names)
        draws = max(self._points(er, ref.indices[i], names) for i in scattered)
        rows = math.prod(shape[i] for i in scattered)
        different = rows * -math.expm1(draws * math.log1p(-1 / rows)) if rows > 1 else 1.0
        return different * math.prod(n for i, n in enumerate(shape) if i not in scattered)


def _chosen(bound: Expr) -> bool:
    """True if an element of another tensor says which element of a tensor the bound reads."""
    refs = [n for n in walk(bound) if isinstance(n, Ref)]
    return any(isinstance(n, Ref) for ref in refs for i in ref.indices for n in walk(i))


def _factors(e: Expr) -> list[Expr]:
    """The factors of a product, or the expression alone."""
    if isinstance(e, Bin) and e.op == "*":
        return _factors(e.lhs) + _factors(e.rhs)
    return [e]


def _of_pairs(e: Expr) -> bool:
    """True for a comparison of data that is made for each pair of what its two sides go over."""
    if not (isinstance(e, Bin) and e.op in COMPARISONS) or not any(
        isinstance(n, Ref) for n in walk(e)
    ):
        return False
    one, other = _names(e.lhs), _names(e.rhs)
    return not (one <= other or other <= one)


def _names(e: Expr) -> frozenset[str]:
    return frozenset(n.name for n in walk(e) if isinstance(n, Var))


def _spread(length: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Up to ``_SAMPLES`` indices, evenly spread over a length."""
    if length <= _SAMPLES:
        return np.arange(length)
    return (np.arange(_SAMPLES) + 0.5) * length // _SAMPLES  # type: ignore[return-value]


_NUMPY = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "//": np.floor_divide, "%": np.mod,
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal,
    "!=": np.not_equal, "and": np.logical_and, "or": np.logical_or,
}  # fmt: skip


def _evaluate(e: Expr, grid: Mapping[str, object], dims: Mapping[str, int]) -> object:
    """A condition on indices, over a grid of them. Raises KeyError for other forms."""
    if isinstance(e, Var):
        return grid[e.name]
    if isinstance(e, Bin):
        left, right = _evaluate(e.lhs, grid, dims), _evaluate(e.rhs, grid, dims)
        return _NUMPY[e.op](left, right)  # type: ignore[call-overload]
    if isinstance(e, Call) and e.fn == "not":
        return np.logical_not(_evaluate(e.args[0], grid, dims))  # type: ignore[call-overload]
    if isinstance(e, Num):
        return e.value
    try:
        return evaluate_int(e, dims)
    except ValueError:
        raise KeyError(type(e).__name__) from None
