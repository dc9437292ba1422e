"""KE-IR to one C99 file: a function a kernel, and two for the program that calls them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ke_gen_c99.kernel import KernelText
from ke_gen_c99.text import integer, pointer
from ke_ir.expr import Bin, Expr, Num
from ke_ir.ir import (
    KernelCall,
    Module,
    Once,
    Program,
    ProgramStmt,
    Repeat,
    View,
    call_dims,
    fixed_dims,
)
from ke_ir.types import TensorType

PRELUDE = (Path(__file__).parent / "prelude.h").read_text(encoding="utf-8")
_HEAD = "/* Made by ke-gen; compile with: cc -std=c99 -fwrapv -fPIC -shared FILE -lm */"


@dataclass(frozen=True)
class Lowered:
    """A C file, and the bytes that the tiles of each kernel take."""

    text: str
    tile_bytes: Mapping[str, int]


def lower(module: Module, program: Program, dims: Mapping[str, int], limit: int) -> Lowered:
    """The C file of ``program``; ``dims`` binds all its dims. Sizes given as a range are arguments.

    ``ke_once`` and ``ke_run`` take inputs, outputs and temporaries (``arguments``), then the dims.
    Raises IllegalProgram, also when the tiles of a kernel take more than ``limit`` bytes.
    """
    used = dict.fromkeys(call.kernel for call in program.calls)
    kernels = [(module.kernels[n], fixed_dims(program, module.kernels[n], dims)) for n in used]
    made = {k.name: KernelText(k, fixed, limit) for k, fixed in kernels}
    parts = [_HEAD, PRELUDE, *(m.text() for m in made.values()), *_program(module, program, dims)]
    return Lowered("\n".join(parts) + "\n", {n: m.tile_bytes for n, m in made.items()})


def arguments(program: Program) -> dict[str, TensorType]:
    """The tensors that ``ke_run`` takes, in order."""
    return {**program.tensors, **program.temps}


def _program(module: Module, program: Program, dims: Mapping[str, int]) -> Iterator[str]:
    """``ke_once``, which computes what is computed once per set of weights, and ``ke_run``."""
    inputs = {p.name for p in program.inputs}
    params = [pointer(n, t, n in inputs) for n, t in arguments(program).items()]
    params += [f"int64_t d_{d.name}" for d in program.dims]
    once = [s for s in program.body if isinstance(s, Once)]
    rest = [s for s in program.body if not isinstance(s, Once)]
    for name, body in (("ke_once", once), ("ke_run", rest)):
        yield f"void {name}({', '.join(params)}) {{"
        yield from _calls(module, program, dims, body)
        yield "}"


def _calls(
    module: Module, program: Program, dims: Mapping[str, int], body: Sequence[ProgramStmt]
) -> Iterator[str]:
    def variable(name: str) -> str:
        return f"i_{name}"

    def view(v: View) -> str:
        shape = arguments(program)[v.tensor].shape
        offset: Expr = Num(0)
        for i, size in enumerate(shape):
            offset = Bin("*", offset, size)
            if i < len(v.indices):
                offset = Bin("+", offset, v.indices[i])
        return f"t_{v.tensor}" + (f" + {integer(offset, variable, {})}" if v.indices else "")

    for s in body:
        if isinstance(s, KernelCall):
            kernel = module.kernels[s.kernel]
            fixed, sizes = fixed_dims(program, kernel, dims), call_dims(program, s, kernel)
            args = [view(v) for v in (*s.args, *s.outs)]
            args += [integer(e, variable, {}) for n, e in sizes.items() if n not in fixed]
            yield f"  k_{s.kernel}({', '.join(args)});"
        elif isinstance(s, Repeat):
            i, lo, hi = variable(s.var), *(integer(e, variable, {}) for e in (s.lo, s.hi))
            yield f"  for (int64_t {i} = {lo}; {i} < {hi}; ++{i}) {{"
            yield from ("  " + line for line in _calls(module, program, dims, s.body))
            yield "  }"
        elif isinstance(s, Once):
            yield from _calls(module, program, dims, s.body)
