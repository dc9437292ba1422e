"""Programs run as kernels are: each call in turn, with temporaries between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ke_ir.expr import Ref, evaluate_int, show
from ke_ir.interpret_index import Array
from ke_ir.interpret_memory import MeaningError
from ke_ir.interpret_run import (
    any_nan,
    fitting,
    held_dtype,
    held_values,
    release,
    run_kernel,
)
from ke_ir.ir import (
    KernelCall,
    Module,
    Once,
    Program,
    ProgramStmt,
    Repeat,
    Temp,
    View,
    bind_call,
    tensors_of_calls,
)
from ke_ir.types import TensorType


def interpret_program(
    module: Module,
    program: Program,
    dims: Mapping[str, int] | None,
    inputs: Mapping[str, Array],
    *,
    exact: bool = True,
    check_nan: bool = True,
) -> dict[str, Array]:
    """Run a verified program and return its outputs by name, as ``interpret_kernel`` does.

    Raises MeaningError also when a call reads what was not written before it, writes what it
    reads, or names a part outside its tensor. Temporaries may hold NaN.
    """
    run = _ProgramRun(module, program, program.sizes(dims), exact, inputs)
    run.check_nan = check_nan
    for p in program.outputs:
        run.allocate(p.name, p.type)
    run.whole(program.body)
    for p in program.outputs:
        run.check_written(View(p.name), f"output %{p.name} is returned")
    return {p.name: release(run.buffers[p.name].data, p.type.dtype, exact) for p in program.outputs}


@dataclass
class _Buffer:
    """A tensor of the program; ``written`` is true where it is, or None if that is everywhere.

    Neither takes memory before something is written.
    """

    data: Array
    written: Array | None

    def put(self, part: tuple[Any, ...], values: Array) -> None:
        """Write a part. The values of a whole tensor become its own, without a copy."""
        if part == (...,):
            self.data, self.written = values, None
            return
        if not self.data.flags.writeable:
            self.data = np.zeros(self.data.shape, self.data.dtype)
            self.written = np.zeros(self.data.shape, bool)
        self.data[part] = values
        if self.written is not None:
            self.written[part] = True


class _ProgramRun:
    def __init__(
        self, module: Module, program: Program, sizes: Mapping[str, int], exact: bool,
        inputs: Mapping[str, Array],
    ) -> None:  # fmt: skip
        self.module, self.program, self.exact = module, program, exact
        self.sizes = dict(sizes)
        self.inputs = {p.name: fitting(p.name, p.type, self.sizes, inputs) for p in program.inputs}
        self.variables: dict[str, int] = {}
        self.buffers: dict[str, _Buffer] = {}
        self.check_nan = True

    def allocate(self, name: str, t: TensorType) -> None:
        shape = t.sizes(self.sizes)
        nothing = np.zeros((), held_dtype(t.dtype, self.exact))
        self.buffers[name] = _Buffer(
            np.broadcast_to(nothing, shape), np.broadcast_to(np.False_, shape)
        )

    def whole(self, body: tuple[ProgramStmt, ...]) -> None:
        """All of the program. Tensors are held from their first use to their last: inputs may be
        weights of gigabytes, and a network has hundreds of temporaries.
        """
        used = [set(tensors_of_calls(s)) for s in body]
        last = {n: i for i, names in enumerate(used) for n in names}
        outputs = {p.name for p in self.program.outputs}
        for i, (s, names) in enumerate(zip(body, used, strict=True)):
            for name in names & set(self.inputs) - set(self.buffers):
                self.take(name)
            self.block((s,))
            for name in names - outputs:
                if last[name] == i:
                    del self.buffers[name]

    def take(self, name: str) -> None:
        """Hold an input from now on."""
        data = held_values(self.inputs[name], self.program.tensors[name].dtype, self.exact)
        self.buffers[name] = _Buffer(data, None)
        self.check_nan = self.check_nan and not any_nan({name: data})

    def block(self, body: tuple[ProgramStmt, ...]) -> None:
        for s in body:
            match s:
                case Temp(name, t):
                    self.allocate(name, t)
                case KernelCall():
                    self.call(s)
                case Once(inner):
                    self.block(inner)
                case Repeat(var, lo, hi, inner):
                    names = {**self.sizes, **self.variables}
                    for i in range(evaluate_int(lo, names), evaluate_int(hi, names)):
                        self.variables[var] = i
                        self.block(inner)

    def call(self, s: KernelCall) -> None:
        kernel = self.module.kernels[s.kernel]
        held: dict[str, Array] = {}
        for p, view in zip(kernel.inputs, s.args, strict=True):
            self.check_written(view, f"@{s.kernel} reads %{p.name}")
            held[p.name] = self.buffers[view.tensor].data[self.part(view)]
            for out in s.outs:
                self.check_apart(s, view, out)
        wanted = {v.tensor for v in s.outs} & {p.name for p in self.program.outputs}
        nan = self.check_nan and bool(wanted) and not any_nan(held)
        sizes = bind_call(self.program, s, kernel, self.sizes)
        results = run_kernel(kernel, sizes, held, self.exact, nan)
        for p, view in zip(kernel.outputs, s.outs, strict=True):
            self.buffers[view.tensor].put(self.part(view), results[p.name])

    def part(self, view: View) -> tuple[Any, ...]:
        """The leading index of a view; raises MeaningError when it is outside the tensor."""
        names = {**self.sizes, **self.variables}
        index = tuple(evaluate_int(e, names) for e in view.indices)
        shape = self.buffers[view.tensor].data.shape
        if not all(0 <= i < n for i, n in zip(index, shape, strict=False)):
            raise MeaningError(
                "view-outside",
                f"`{_text(view)}` is part {list(index)} of a tensor of shape {list(shape)}",
                tensor=view.tensor,
                index=index,
                loc=view.loc,
            )
        return (*index, ...)

    def check_written(self, view: View, reader: str) -> None:
        written = self.buffers[view.tensor].written
        if written is None or written[self.part(view)].all():
            return
        raise MeaningError(
            "reads-unwritten",
            f"{reader} before all of `{_text(view)}` is written",
            tensor=view.tensor,
            loc=view.loc,
        )

    def check_apart(self, s: KernelCall, arg: View, out: View) -> None:
        if arg.tensor != out.tensor:
            return
        a, b = self.part(arg)[:-1], self.part(out)[:-1]
        if a[: len(b)] == b[: len(a)]:
            raise MeaningError(
                "reads-output",
                f"@{s.kernel} reads `{_text(arg)}` and writes `{_text(out)}`, which overlap",
                tensor=arg.tensor,
                loc=s.loc,
            )


def _text(v: View) -> str:
    return show(Ref(v.tensor, v.indices), "%") if v.indices else f"%{v.tensor}"
