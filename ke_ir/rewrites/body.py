"""A kernel's body as rewrites see it: what is where, and replacing part of it.

Names must be unique within the kernel (``unique_names``). A place is a path: the position of a
statement in the body, then in that statement's body, and so on.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, TypeVar

from ke_ir.axes import Axes, find_axes
from ke_ir.expr import Bin, Dim, Expr, Var, rewrite
from ke_ir.intervals import Interval, interval
from ke_ir.ir import For, Kernel, LoopVar, Parallel, Yield, defined_names
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.rewrites.names import used_names
from ke_ir.types import TileType

Path = tuple[int, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class LoopSite:
    """A loop variable, the statement that it belongs to, and where that is."""

    var: LoopVar
    loop: For | Parallel
    path: Path


class Facts:
    """What rewrites ask about one kernel. Take it from ``facts(kernel)``."""

    def __init__(self, k: Kernel) -> None:
        self.kernel = k
        self.loops: dict[str, LoopSite] = {}
        self.places: dict[str, Path] = {}
        """Path of the statement that defines each value (carried values: of their loop)."""
        self.definitions: dict[str, Op | For] = {}
        """The statement that defines each value; for a carried value and a result, the loop."""
        self.statements: list[tuple[Path, Stmt]] = []
        self._walk(k.body, ())

    def _walk(self, body: Sequence[Stmt], path: Path) -> None:
        for i, s in enumerate(body):
            here = (*path, i)
            self.statements.append((here, s))
            for n in defined_names(s):
                self.places[n] = here
                if isinstance(s, Op | For):
                    self.definitions[n] = s
            if isinstance(s, For):
                self.loops[s.var.name] = LoopSite(s.var, s, here)
                for n, _ in s.carries:
                    self.places[n], self.definitions[n] = here, s
            elif isinstance(s, Parallel):
                for v in s.vars:
                    self.loops[v.name] = LoopSite(v, s, here)
            if isinstance(s, For | Parallel):
                self._walk(s.body, here)

    @property
    def parallel(self) -> Parallel:
        """The kernel's outermost statement."""
        (p,) = self.kernel.body
        assert isinstance(p, Parallel)
        return p

    @property
    def types(self) -> dict[str, TileType]:
        return self.axes.scope.values

    @cached_property
    def uses(self) -> Counter[str]:
        """How often each value or loop variable is named."""
        return Counter(n for _, s in self.statements for n in used_names(s))

    @cached_property
    def users(self) -> dict[str, list[tuple[Path, Stmt]]]:
        """The statements that name each value or loop variable, in order."""
        out: dict[str, list[tuple[Path, Stmt]]] = {}
        for path, s in self.statements:
            for n in dict.fromkeys(used_names(s)):
                out.setdefault(n, []).append((path, s))
        return out

    @cached_property
    def axes(self) -> Axes:
        return find_axes(self.kernel)

    @cached_property
    def spans(self) -> dict[str, Interval]:
        """Sizes that each dim may have."""
        out: dict[str, Interval] = {}
        for d in self.kernel.dims:
            out[d.name] = Interval(d.low, d.high) if d.is_range else _span(d.size, out)
        return out

    def span(self, e: Expr) -> Interval:
        """Values of an expression of dims at all sizes; unbounded if it depends on more."""
        return _span(e, self.spans)

    def extent(self, v: LoopVar) -> int | None:
        """Number of indices of a loop variable if it is the same in every run."""
        n = self.span(Bin("-", v.hi, v.lo))
        return max(0, n.lo) if n.lo is not None and n.lo == n.hi else None

    def one_trip(self, v: LoopVar) -> bool:
        """True if the loop runs exactly once at every size."""
        n = self.span(Bin("-", v.hi, v.lo))
        return n.inside(1, v.step + 1)

    def get(self, path: Path) -> Stmt:
        s: Stmt | Kernel = self.kernel
        for i in path:
            assert isinstance(s, Kernel | For | Parallel)
            s = s.body[i]
        assert isinstance(s, Stmt)
        return s

    def block_of(self, path: Path) -> tuple[Stmt, ...]:
        """The statements among which the one at ``path`` stands."""
        if len(path) == 1:
            return self.kernel.body
        parent = self.get(path[:-1])
        assert isinstance(parent, For | Parallel)
        return parent.body

    def enclosing(self, path: Path) -> Iterator[For | Parallel]:
        """The loops around a place, outermost first."""
        for n in range(1, len(path)):
            s = self.get(path[:n])
            assert isinstance(s, For | Parallel)
            yield s


def _span(e: Expr, dims: Mapping[str, Interval]) -> Interval:
    as_variables = rewrite(
        e, lambda n: Var(n.name) if isinstance(n, Dim) else n if not isinstance(n, Var) else Var("")
    )
    return interval(as_variables, {}, dims)


class Recent(Generic[T]):
    """What was computed last, by the identity of the immutable objects it was computed from."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: OrderedDict[tuple[int, ...], tuple[tuple[object, ...], T]] = OrderedDict()

    def get(self, of: tuple[object, ...], compute: Callable[[], T]) -> T:
        """What ``compute`` gave for these objects, or gives now."""
        key = tuple(map(id, of))
        got = self.kept.get(key)
        if got is not None:
            self.kept.move_to_end(key)
            return got[1]
        made = compute()
        self.kept[key] = (of, made)  # the objects too, so that no other has their identity
        if len(self.kept) > self.size:
            self.kept.popitem(last=False)
        return made


_FACTS: Recent[Facts] = Recent(64)


def facts(k: Kernel) -> Facts:
    """What is known of a kernel; kept for the kernels asked about last."""
    return _FACTS.get((k,), lambda: Facts(k))


def splice(k: Kernel, path: Path, new: Sequence[Stmt]) -> Kernel:
    """The kernel with the statement at ``path`` replaced by these."""
    return replace(k, body=_splice(k.body, path, tuple(new)))


def _splice(body: tuple[Stmt, ...], path: Path, new: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    i = path[0]
    if len(path) == 1:
        return body[:i] + new + body[i + 1 :]
    s = body[i]
    assert isinstance(s, For | Parallel)
    return (*body[:i], replace(s, body=_splice(s.body, path[1:], new)), *body[i + 1 :])


def replace_block(k: Kernel, path: Path, body: Sequence[Stmt]) -> Kernel:
    """The kernel with the whole body of the loop at ``path`` replaced."""
    s = facts(k).get(path)
    assert isinstance(s, For | Parallel)
    return splice(k, path, (replace(s, body=tuple(body)),))


def split_yield(body: tuple[Stmt, ...]) -> tuple[tuple[Stmt, ...], tuple[Operand, ...]]:
    """A loop's body without its ``yield``, and the values yielded."""
    if body and isinstance(body[-1], Yield):
        return body[:-1], body[-1].values
    return body, ()
