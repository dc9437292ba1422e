"""Which exponentials are a softmax's: of values from which their maximum has been taken."""

from __future__ import annotations

from collections.abc import Iterable

from ke_ir.ir import For, Kernel, Parallel, Yield
from ke_ir.ops.arith import Binary, Cast, Select, Unary
from ke_ir.ops.base import Operand, Stmt
from ke_ir.ops.shape import Broadcast, Expand, Permute, Reduce, Reshape

_MOVES = (Cast, Broadcast, Expand, Permute, Reshape)


class SoftmaxWeights:
    """Knows the statements ``exp (x - m)`` where ``m`` is the maximum of a reduction so far.

    Their arguments are not above 0, so that an error that grows with the argument is small
    beside the largest weight, 1.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._found: set[Stmt] = set()
        self._walk(kernel.body, set(), set())

    def __contains__(self, s: Stmt) -> bool:
        return s in self._found

    def _walk(self, body: Iterable[Stmt], maxima: set[str], shifted: set[str]) -> list[bool]:
        """Go through a block; which of the values that it yields are maxima.

        A name that was used before is first forgotten.
        """
        maxima, shifted = set(maxima), set(shifted)
        for s in body:
            if isinstance(s, Parallel):
                self._walk(s.body, maxima, shifted)
            elif isinstance(s, For):
                names = {c for c, _ in s.carries}
                yielded = self._walk(s.body, maxima - names, shifted - names)
                carried = {c for (c, _), m in zip(s.carries, yielded, strict=True) if m}
                self._walk(s.body, (maxima - names) | carried, shifted - names)
                shifted -= set(s.results)
                maxima -= set(s.results)
                maxima |= {r for r, m in zip(s.results, yielded, strict=True) if m}
            elif isinstance(s, Yield):
                return [v in maxima for v in s.values]
            else:
                self._op(s, maxima, shifted)
        return []

    def _op(self, s: Stmt, maxima: set[str], shifted: set[str]) -> None:
        result = getattr(s, "result", None)
        if isinstance(s, Unary) and s.fn == "exp" and s.x in shifted:
            self._found.add(s)
        is_maximum = _is_maximum(s, maxima)
        is_shifted = isinstance(s, Binary) and s.fn == "sub" and s.y in maxima
        for names, holds in ((maxima, is_maximum), (shifted, is_shifted)):
            names.discard(result)
            if holds and result is not None:
                names.add(result)


def _is_maximum(s: Stmt, maxima: set[str]) -> bool:
    def any_of(*values: Operand) -> bool:
        return any(v in maxima for v in values)

    match s:
        case Reduce(kind="max"):
            return True
        case Binary(fn="max", x=x, y=y) | Select(x=x, y=y):
            return any_of(x, y)
    return isinstance(s, _MOVES) and any_of(s.x)
