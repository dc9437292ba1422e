"""Inputs for checking an op: values that its equations allow, of several distributions.

Integer tensors get legal values by how the op uses them: what indexes a tensor stays inside it,
what bounds a range is sorted, what is compared with an index lies in that index's range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ke_ir.expr import (
    COMPARISONS,
    Bin,
    Expr,
    Num,
    Range,
    Reduce,
    Ref,
    Var,
    children,
    evaluate_int,
    walk,
)
from ke_ir.ranges import EquationRanges, infer_ranges
from ke_ir.types import DType

if TYPE_CHECKING:
    from ke_ir.ir import OpDef, Signature

    Array = np.ndarray[Any, Any]

DISTRIBUTIONS = ("normal", "uniform", "mixed")
"""Signed normal; uniform on [0, 1); signed with magnitudes from 2^-10 to 2^3, and some zeros."""

DOMAINS: dict[str, Callable[[Array], Array]] = {
    "": lambda x: x,
    "positive": lambda x: np.abs(x) + 1 / 16,
    "between 0 and 1": lambda x: 1 / 16 + 7 / 8 * (np.abs(x) % 1.0),
    "above 1": lambda x: np.abs(x) + 17 / 16,
    "eight times as large": lambda x: 8.0 * x,
}
"""Where ops are defined, in the order in which they are tried: anywhere; as sqrt and log are; as
logit and asin are; as acosh is; as a norm is that takes something from the variance."""

_DEFAULT_INTEGERS = 16


@dataclass(frozen=True)
class Role:
    """How an integer tensor is used: values from ``low`` to ``high``, both included.

    ``sorted_offsets``: non-decreasing along the last dimension, from ``low`` to ``high``.
    ``outside``: an ``else`` catches values beyond, so that some are drawn there too.
    """

    low: int
    high: int
    sorted_offsets: bool = False
    outside: bool = False


def make_inputs(
    signature: Signature,
    roles: Mapping[str, Role],
    dims: Mapping[str, int],
    seed: int,
    distribution: str,
    domain: str = "",
    scale: float = 1.0,
) -> dict[str, Array]:
    """Inputs by name, in their declared dtypes and the shapes at ``dims``.

    ``distribution`` is one of ``DISTRIBUTIONS``, ``domain`` of ``DOMAINS``. Floats are multiplied
    by ``scale`` at last.
    """
    rng = np.random.default_rng([seed, DISTRIBUTIONS.index(distribution)])
    out = {}
    for p in signature.inputs:
        shape = p.type.sizes(dict(dims))
        role = roles.get(p.name)
        out[p.name] = _draw(rng, p.type.dtype, shape, role, distribution, domain, scale)
    return out


def _draw(
    rng: np.random.Generator,
    dtype: DType,
    shape: tuple[int, ...],
    role: Role | None,
    distribution: str,
    domain: str,
    scale: float,
) -> Array:
    # A tensor of rank 0 is drawn as a numpy scalar, hence the calls of asarray.
    if dtype.is_bool:
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.is_int:
        return np.asarray(_integers(rng, shape, role, dtype), dtype.numpy())
    if distribution == "uniform":
        x = rng.random(shape)
    else:
        x = rng.standard_normal(shape)
    if distribution == "mixed":
        x = np.copysign(np.exp2(rng.uniform(-10, 3, shape)), x)
        x = np.where(rng.random(shape) < 0.05, 0.0, x)
    return np.asarray((DOMAINS[domain](np.asarray(x)) * scale).astype(dtype.numpy()))


def _integers(
    rng: np.random.Generator, shape: tuple[int, ...], role: Role | None, dtype: DType
) -> Array | np.int64:
    if role is None:
        low = 0 if dtype is DType.U8 else -_DEFAULT_INTEGERS
        return rng.integers(low, _DEFAULT_INTEGERS, shape, endpoint=True)
    if role.high < role.low:
        return np.zeros(shape, np.int64)
    x: Array = np.asarray(rng.integers(role.low, role.high, shape, endpoint=True))
    if role.sorted_offsets and shape and shape[-1]:
        x = np.sort(x, axis=-1)
        x[..., -1] = role.high
        x[..., 0] = role.low
    elif role.outside:
        x = np.where(rng.random(shape) < 0.1, rng.choice([role.low - 1, role.high + 1], shape), x)
    return x


def integer_roles(op: OpDef, dims: Mapping[str, int]) -> dict[str, Role]:
    """Roles of the op's integer inputs at these sizes, for those whose use says one.

    Where uses disagree, the values stay in all of their ranges.
    """
    found: dict[str, list[Role]] = {}
    for name, role in _Uses(op, dims).all():
        found.setdefault(name, []).append(role)
    return {name: _meet(roles) for name, roles in found.items()}


def _meet(roles: list[Role]) -> Role:
    return Role(
        max(r.low for r in roles),
        min(r.high for r in roles),
        any(r.sorted_offsets for r in roles),
        all(r.outside for r in roles),
    )


class _Uses:
    """Walks an op's equations and reports how integer inputs are used."""

    def __init__(self, op: OpDef, dims: Mapping[str, int]) -> None:
        self.op, self.dims = op, dims
        self.inferred = infer_ranges(op)
        self.integers = {p.name for p in op.inputs if p.type.dtype.is_int}
        self.equations = {e.target: e for e in op.equations}

    def all(self) -> Iterator[tuple[str, Role]]:
        for er in self.inferred.equations:
            for r in er.equation.ranges:
                yield from self._bounds(er, r)
            for node in walk(er.equation.rhs):
                if isinstance(node, Ref):
                    yield from self._subscripts(node)
                elif isinstance(node, Reduce):
                    for r in node.ranges:
                        yield from self._bounds(er, r)
                elif isinstance(node, Bin) and node.op in COMPARISONS:
                    yield from self._comparison(er, node)

    def _extent(self, er: EquationRanges, name: str) -> int:
        """How far an index goes: its bound, or for a data-dependent one what it subscripts."""
        try:
            return evaluate_int(er.ranges[name][1], self.dims)
        except (KeyError, ValueError):
            sizes = [
                evaluate_int(size, self.dims)
                for ref in er.refs
                for index, size in zip(ref.indices, self.inferred.shapes[ref.tensor], strict=True)
                if isinstance(index, Var) and index.name == name
            ]
            return min(sizes, default=0)

    def _bounds(self, er: EquationRanges, r: Range) -> Iterator[tuple[str, Role]]:
        for bound in (r.lo, r.hi):
            if bound is not None:
                for name in self._sources(bound):
                    yield name, Role(0, self._extent(er, r.name), sorted_offsets=True)

    def _subscripts(self, ref: Ref) -> Iterator[tuple[str, Role]]:
        shape = self.inferred.shapes[ref.tensor]
        for index, size in zip(ref.indices, shape, strict=True):
            sources = self._sources(index)
            if not sources:
                continue
            shift = _shift(index)
            high = evaluate_int(size, self.dims) - 1
            for name in sources:
                yield name, Role(-shift, high - shift, outside=ref.fill is not None)

    def _comparison(self, er: EquationRanges, node: Bin) -> Iterator[tuple[str, Role]]:
        for side, other in ((node.lhs, node.rhs), (node.rhs, node.lhs)):
            if isinstance(side, Var) and side.name in er.ranges:
                for name in self._sources(other):
                    yield name, Role(0, self._extent(er, side.name) - 1)

    def _sources(self, e: Expr) -> list[str]:
        """Integer inputs that give the value of ``e``; not those that index others inside it.

        Each equation is looked at once: in a long chain, where each reads the one before more than
        once, there are more ways through them than can be walked.
        """
        found: dict[str, None] = {}
        seen: set[str] = set()
        waiting = [e]
        while waiting:
            n = waiting.pop()
            if not isinstance(n, Ref):
                waiting += reversed(children(n))
            elif n.tensor in self.integers:
                found[n.tensor] = None
            elif n.tensor in self.equations and n.tensor not in seen:
                seen.add(n.tensor)
                waiting.append(self.equations[n.tensor].rhs)
        return list(found)


def _shift(index: Expr) -> int:
    """The constant that is added to the tensor's value in ``index``; 0 for other forms."""
    if isinstance(index, Bin) and isinstance(index.rhs, Num) and index.op in "+-":
        return int(index.rhs.value) if index.op == "+" else -int(index.rhs.value)
    return 0
