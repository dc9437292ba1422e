"""How much work a program is: operations and bytes, as data for time models and the roofline.

``lowering.count`` finds them by walking the tile program. The counts are static: loop trip counts
come from bounds and sizes, averaged over the grid where they depend on the place in it; what
depends on data is assumed, and the assumption is stated in the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ke_ir.expr import evaluate_int
from ke_ir.ir import KernelCall, Module, Program, ProgramStmt, Repeat, bind_call
from ke_ir.types import TensorType
from lowering.count import KernelWork, analyse


@dataclass(frozen=True)
class Work:
    """The work of a program: its launches in order, with how often each is repeated.

    ``input_bytes`` are the least that any data makes it read of the program's inputs,
    ``output_bytes`` all of its outputs; they and ``matrix_flops`` bound the time from below.
    """

    launches: tuple[tuple[KernelWork, int], ...]
    input_bytes: float
    output_bytes: float

    @property
    def matrix_flops(self) -> Mapping[str, float]:
        """Matrix operations by format, over all launches."""
        total: dict[str, float] = {}
        for kernel, times in self.launches:
            for name, flops in kernel.matrix_flops.items():
                total[name] = total.get(name, 0.0) + flops * times
        return total

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What was assumed about data, each once."""
        found = (text for kernel, _ in self.launches for text in kernel.assumptions)
        return tuple(dict.fromkeys(found))


def analyse_program(
    module: Module, program: Program, dims: Mapping[str, int], pad: bool = True
) -> Work:
    """Work of ``program`` at ``dims`` (every dim bound), without its ``once`` part.

    ``pad``: tile dimensions are rounded up to powers of two, as Triton needs them. Raises
    ``ke_ir.ir.BindError`` when a call does not fit its kernel.
    """
    launches: list[tuple[KernelWork, int]] = []
    least: dict[str, float] = {p.name: 0.0 for p in program.inputs}
    for call, times in _calls(program.body, dict(dims)):
        kernel = module.kernels[call.kernel]
        names = {
            param.name: view.tensor for param, view in zip(kernel.inputs, call.args, strict=True)
        }
        for work in analyse(kernel, bind_call(program, call, kernel, dims), pad):
            launches.append((work, times))
            for name, count in work.least_reads.items():
                tensor = names.get(name, "")
                if tensor in least:
                    least[tensor] = max(least[tensor], count)
    return Work(
        launches=tuple(launches),
        input_bytes=sum(least.values()),
        output_bytes=sum(_bytes(p.type, dict(dims)) for p in program.outputs),
    )


def _calls(
    body: tuple[ProgramStmt, ...], names: dict[str, int], times: int = 1
) -> Iterator[tuple[KernelCall, int]]:
    for statement in body:
        if isinstance(statement, KernelCall):
            yield statement, times
        elif isinstance(statement, Repeat):
            low, high = (evaluate_int(e, names) for e in (statement.lo, statement.hi))
            inner = {**names, statement.var: low}
            yield from _calls(statement.body, inner, times * max(0, high - low))


def _bytes(tensor: TensorType, dims: dict[str, int]) -> float:
    count = float(tensor.dtype.bytes)
    for size in tensor.sizes(dims):
        count *= size
    return count
