"""One run of a kernel: its body compiled to closures over numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ke_ir.expr import Expr, evaluate_int
from ke_ir.interpret_index import Array, Frame, compile_scalar
from ke_ir.interpret_memory import Access, MeaningError, Output, compile_access
from ke_ir.ir import For, Kernel, LoopVar, Parallel, Yield
from ke_ir.numerics import AT_ONCE, compute_dtype, round_to
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.ops.memory import Accumulate
from ke_ir.scope import TypeScope
from ke_ir.types import DType, TensorType, TileType

Step = Callable[[], None]


def held_dtype(dtype: DType, exact: bool) -> np.dtype[Any]:
    """The numpy dtype in which a run holds values of an IR dtype."""
    return np.dtype(np.float64) if exact and dtype.is_float else compute_dtype(dtype)


def hold(
    name: str, t: TensorType, sizes: Mapping[str, int], inputs: Mapping[str, Array], exact: bool
) -> Array:
    """An input as the run holds it; raises ValueError if it is missing or misshapen."""
    return held_values(fitting(name, t, sizes, inputs), t.dtype, exact)


def fitting(
    name: str, t: TensorType, sizes: Mapping[str, int], inputs: Mapping[str, Array]
) -> Array:
    """An input as it is given; raises ValueError if it is missing or misshapen."""
    if name not in inputs:
        raise ValueError(f"input %{name}: {t} is missing")
    x = np.asarray(inputs[name])
    want = t.sizes(dict(sizes))
    if x.shape != want:
        raise ValueError(f"input %{name} has shape {list(x.shape)}, but {t} means {list(want)}")
    return x


def held_values(x: Array, dtype: DType, exact: bool) -> Array:
    """An input's values as the run holds them; a large one is as it is until it is loaded."""
    if x.size > AT_ONCE and x.dtype == dtype.numpy():
        return x
    if exact or not dtype.is_float:
        return x.astype(held_dtype(dtype, exact), copy=False)
    return round_to(x, dtype)


def any_nan(arrays: Mapping[str, Array]) -> bool:
    # The smallest is NaN if any is. To ask each would take a byte of memory for it.
    with np.errstate(invalid="ignore"):
        smallest = [a.min(initial=0) for a in arrays.values() if a.dtype.kind not in "biu"]
    return any(bool(np.isnan(x)) for x in smallest)


def release(x: Array, dtype: DType, exact: bool) -> Array:
    return x if exact else x.astype(dtype.numpy(), copy=False)


def run_kernel(
    kernel: Kernel, sizes: Mapping[str, int], held: Mapping[str, Array], exact: bool, nan: bool
) -> dict[str, Array]:
    """``interpret_kernel`` on held arrays, for a program's calls."""
    run = KernelRun(kernel, sizes, held, exact)
    try:
        with np.errstate(all="ignore"):
            for step in run.block(kernel.body):
                step()
        for o in run.outputs.values():
            o.finish(nan)
        return {name: o.data for name, o in run.outputs.items()}
    finally:
        run.forget()


class KernelRun:
    """One run of one kernel: compiles its body to closures. Is the ops' ``Machine``."""

    def __init__(
        self, kernel: Kernel, sizes: Mapping[str, int], held: Mapping[str, Array], exact: bool
    ) -> None:
        self.exact = exact
        self.sizes = dict(sizes)
        self.scope = TypeScope(kernel)
        self.frame = Frame()
        self.values = self.frame.values
        self.inputs = dict(held)
        self.outputs = {
            p.name: Output(
                p.name,
                p.type.sizes(self.sizes),
                held_dtype(p.type.dtype, exact),
                partial(self.rounded, dtype=p.type.dtype),
            )
            for p in kernel.outputs
        }
        self.types: dict[str, DType] = {n: t.dtype for n, t in kernel.tensors.items()}
        self.held = {n: held_dtype(d, exact) for n, d in self.types.items()}
        self.access: Access | None = None  # of the memory statement at hand, ``at``
        self.literals: dict[tuple[str, np.dtype[Any]], Array] = {}
        self.at: Op | None = None

    def forget(self) -> None:
        """Let go of all arrays. The closures refer to one another, so the run itself stays until
        the next collection of garbage, and tensors may be of gigabytes.
        """
        for held in (self.inputs, self.outputs, self.values):
            held.clear()

    # Compilation.

    def block(self, body: Sequence[Stmt]) -> list[Step]:
        return [self.statement(s) for s in body if not isinstance(s, Yield)]

    def statement(self, s: Stmt) -> Step:
        if isinstance(s, Op):
            return self.op(s)
        if isinstance(s, For):
            return self.loop(s)
        if isinstance(s, Parallel):
            return self.parallel(s)
        raise ValueError(f"not a statement of a kernel: {type(s).__name__}")

    def op(self, s: Op) -> Step:
        t = self.scope.define(s)
        if s.family == "memory":
            return self._memory(s)
        evaluate, name, values = s.evaluate, s.result, self.values
        if name is None or t is None:
            return lambda: evaluate(self)  # type: ignore[return-value]
        if self.exact or s.family in ("shape", "create"):
            # No rounding: floats stay float64, and these families only move rounded values.
            def assign() -> None:
                values[name] = evaluate(self)  # type: ignore[assignment]

            return assign
        dtype = t.dtype

        def assign_rounded() -> None:
            values[name] = round_to(evaluate(self), dtype)  # type: ignore[arg-type]

        return assign_rounded

    def _memory(self, s: Op) -> Step:
        """One statement object may stand in several places, so each gets an access of its own."""
        tensor: str = getattr(s, "tensor")  # noqa: B009
        if s.has_result and tensor in self.outputs:
            raise MeaningError(
                "reads-output",
                f"the kernel loads %{tensor}, which it writes",
                tensor=tensor,
                loc=s.loc,
            )
        if tensor in self.outputs:
            self.outputs[tensor].declare(s, s.kind if isinstance(s, Accumulate) else "store")
        shape = self.scope.tensor(tensor).sizes(self.sizes)
        access = compile_access(s.coordinates(), shape, self.scope, self.sizes, self.frame)
        evaluate, name, values = s.evaluate, s.result, self.values

        def run() -> None:
            self.at, self.access = s, access
            got = evaluate(self)
            if name is not None and got is not None:
                values[name] = got

        return run

    def loop(self, s: For) -> Step:
        lo, hi, advance = self._range(s.var)
        self.scope.enter(s)
        names = [name for name, _ in s.carries]
        types = [self.scope.values[name] for name in names]
        start = [self._reader(x, t) for (_, x), t in zip(s.carries, types, strict=True)]
        body = self.block(s.body)
        last = s.body[-1] if s.body else None
        yielded = last.values if isinstance(last, Yield) else ()
        step = [self._reader(x, t) for x, t in zip(yielded, types, strict=True)]
        self._leave(s, s.var)
        values, stride = self.values, s.var.step

        def run() -> None:
            for name, value in zip(names, [read() for read in start], strict=True):
                values[name] = value
            stop = hi()
            for i in range(lo(), stop, stride):
                advance(i, stop)
                for f in body:
                    f()
                # All are read before any is set: a loop may swap what it carries.
                for name, value in zip(names, [read() for read in step], strict=True):
                    values[name] = value
            self._forget(s.var)
            for result, name in zip(s.results, names, strict=True):
                values[result] = values[name]

        return run

    def _leave(self, s: For | Parallel, *loop_vars: LoopVar) -> None:
        self.scope.leave(s)
        for v in loop_vars:
            del self.scope.loops[v.name]

    def _forget(self, v: LoopVar) -> None:
        self.frame.scalars.pop(v.name, None)
        self.frame.tiles.pop(v.name, None)

    def _reader(self, x: Operand, t: TileType) -> Callable[[], Array]:
        values = self.values
        if isinstance(x, str):
            return lambda: values[x]
        literal = np.asarray(x, held_dtype(t.dtype, self.exact))
        return lambda: literal

    def _range(
        self, v: LoopVar
    ) -> tuple[Callable[[], int], Callable[[], int], Callable[[int, int], None]]:
        """Closures for the bounds of a loop variable, and one that sets it for an iteration."""
        frame, name, tile = self.frame, v.name, v.tile
        lo = compile_scalar(v.lo, self.sizes, frame)
        hi = compile_scalar(v.hi, self.sizes, frame)
        if tile is None:
            scalars = frame.scalars

            def set_scalar(i: int, stop: int) -> None:
                scalars[name] = i

            return lo, hi, set_scalar
        tiles, size = frame.tiles, tile

        def set_tile(i: int, stop: int) -> None:
            tiles[name] = (i, min(i + size, stop), size)

        return lo, hi, set_tile

    def parallel(self, s: Parallel) -> Step:
        ranges = []
        for v in s.vars:
            ranges.append((*self._range(v), v.step))
            self.scope.loops[v.name] = v
        body = self.block(s.body)
        self._leave(s, *s.vars)

        def run(depth: int = 0) -> None:
            if depth == len(ranges):
                for f in body:
                    f()
                return
            lo, hi, advance, stride = ranges[depth]
            stop = hi()
            for i in range(lo(), stop, stride):
                advance(i, stop)
                run(depth + 1)

        return run

    # What ops may ask (``ke_ir.ops.base.Machine``).

    def value(self, operand: Operand) -> Array:
        return self.values[operand] if isinstance(operand, str) else np.asarray(operand)

    def pair(self, a: Operand, b: Operand) -> tuple[Array, Array]:
        if isinstance(a, str):
            x = self.values[a]
            return x, self.values[b] if isinstance(b, str) else self._literal(b, x.dtype)
        y = self.value(b)
        return self._literal(a, y.dtype), y

    def _literal(self, x: Operand, dtype: np.dtype[Any]) -> Array:
        key = (str(x), dtype)  # not the number itself: 0.0 and -0.0 are equal
        got = self.literals.get(key)
        if got is None:
            got = self.literals[key] = np.asarray(x, dtype)
        return got

    def rounded(self, x: Array, dtype: DType) -> Array:
        if self.exact and dtype.is_float:
            return x.astype(np.float64, copy=False)
        return round_to(x, dtype)

    def size(self, e: Expr) -> int:
        return evaluate_int(e, self.sizes)

    def index_values(self, name: str) -> Array:
        if name in self.frame.scalars:
            return np.asarray(self.frame.scalars[name])
        start, _, size = self.frame.tiles[name]
        return np.arange(start, start + size)

    def load(self, tensor: str, coords: Sequence[Expr], fill: float) -> Array:
        if fill and not self.exact:
            fill = round_to(np.asarray(fill), self.types[tensor]).item()
        assert self.access is not None
        return self.access.load(self.inputs[tensor], fill, self.held[tensor])

    def store(self, tensor: str, coords: Sequence[Expr], x: Array) -> None:
        assert self.at is not None and self.access is not None
        self.outputs[tensor].store(self.at, self.access, x)

    def accumulate(self, kind: str, tensor: str, coords: Sequence[Expr], x: Array) -> None:
        assert self.at is not None and self.access is not None
        self.outputs[tensor].accumulate(self.at, self.access, x, kind)
