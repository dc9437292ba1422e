"""The meaning of kernels and programs, by running them on numpy arrays.

``exact`` runs take every float as float64 and never round, so what they give differs from the
mathematics only by float64 rounding: a wrong program cannot hide behind its dtypes. ``exact=False``
runs round after every op as the types say. Integers are exactly as typed in both.
"""

from __future__ import annotations

from collections.abc import Mapping

from ke_ir.interpret_index import Array
from ke_ir.interpret_memory import MeaningError
from ke_ir.interpret_program import interpret_program
from ke_ir.interpret_run import any_nan, hold, release, run_kernel
from ke_ir.ir import Kernel

__all__ = ["MeaningError", "interpret_kernel", "interpret_program"]


def interpret_kernel(
    kernel: Kernel,
    dims: Mapping[str, int] | None,
    inputs: Mapping[str, Array],
    *,
    exact: bool = True,
    check_nan: bool = True,
) -> dict[str, Array]:
    """Run a verified kernel and return its outputs by name.

    ``dims`` overrides sizes; ``inputs`` are arrays of the declared shapes, never modified. Floats
    are returned as float64 when ``exact``, else in the declared dtype; integers as declared.

    Raises MeaningError when an element is written twice or never, when stores and accumulations
    mix, or (with ``check_nan``) when an output is NaN although no input is. Raises ValueError for
    inputs that do not fit the signature.
    """
    sizes = kernel.sizes(dims)
    held = {p.name: hold(p.name, p.type, sizes, inputs, exact) for p in kernel.inputs}
    outputs = run_kernel(kernel, sizes, held, exact, check_nan and not any_nan(held))
    return {p.name: release(outputs[p.name], p.type.dtype, exact) for p in kernel.outputs}
