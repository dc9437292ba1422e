"""Candidates as modules: what a search starts from, and how one is told from another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from ke_ir.derive import derive
from ke_ir.expr import evaluate_int
from ke_ir.hashing import structural_hash
from ke_ir.ir import (
    For,
    Item,
    Kernel,
    LoopVar,
    Module,
    OpDef,
    Parallel,
    Program,
    Temp,
    Tuned,
    bind_call,
    program_statements,
)
from ke_ir.ops import Dot, Load, Store
from ke_ir.ops.base import Op, Stmt
from ke_ir.printer import print_module
from ke_ir.rewrites import unique_names
from ke_ir.scope import TypeScope


def restrict(module: Module, name: str) -> Module:
    """Only the op, kernel or program called ``name``, and what it needs."""
    program = module.programs[name]
    called = {c.kernel for c in program.calls}

    def kept(i: Item) -> bool:
        if isinstance(i, OpDef | Program):
            return i.name == name
        if isinstance(i, Tuned):
            return i.kernel == name or i.kernel in called
        return i.name == name or i.name in called

    return Module(tuple(i for i in module.items if kept(i)), file=module.file)


def roots(module: Module, name: str) -> list[Module]:
    """The derived program, and the file's own first where it has one.

    ``module`` is verified. Names in each kernel are unique, as rewrites need them.
    """
    found = []
    op = module.ops.get(name)
    if name in module.programs:
        found.append(restrict(module, name))
    if op is not None:
        found.append(Module((op, *derive(op)), file=module.file))
    named = [unique_names(m) for m in found]
    return list({key(m): m for m in named}.values())


def untuned(module: Module) -> Module:
    """Without ``tuned`` blocks."""
    return replace(module, items=tuple(i for i in module.items if not isinstance(i, Tuned)))


def key(module: Module) -> str:
    """The structural hash of a candidate. Names of values and tuned blocks do not count."""
    return structural_hash(untuned(module))


def text_of(module: Module) -> str:
    """Canonical text without tuned blocks: what the artifacts hold."""
    return print_module(untuned(module))


def tuned_text(text: str, name: str, knobs: Mapping[str, Mapping[str, int | str | bool]]) -> str:
    """A candidate's text with a tuned block for each target (``name.arch``) that has knobs."""
    blocks = []
    for target, chosen in knobs.items():
        if chosen:
            base, _, arch = target.partition(".")
            blocks.append(Tuned(name, base, arch, tuple(chosen.items())))
    if not blocks:
        return text
    return f"{text.rstrip()}\n\n{print_module(Module(tuple(blocks)))}"


def features(module: Module, name: str) -> dict[str, float]:
    """Figures of a candidate's structure, for the descriptor of an archive.

    ``kernels`` called, ``bytes_moved`` and ``dot_flops`` at the default sizes as loads and stores
    state them, ``intensity`` in FLOP per byte, ``local_bytes`` of the largest kernel's tiles,
    ``stages`` and ``statements``.
    """
    program = module.programs[name]
    out = {"kernels": float(len(program.calls)), "statements": 0.0, "stages": 1.0}
    moved = flops = 0.0
    largest = 0
    dims = program.sizes()
    for call in program.calls:
        kernel = module.kernels[call.kernel]
        sizes = bind_call(program, call, kernel, dims)
        tiles, work, transfer, deepest, count = _kernel_figures(kernel, sizes)
        largest, moved, flops = max(largest, tiles), moved + transfer, flops + work
        out["stages"] = max(out["stages"], deepest)
        out["statements"] += count
    temps = [s for s in program_statements(program.body) if isinstance(s, Temp)]
    out["temporaries"] = float(len(temps))
    out["local_bytes"] = float(largest)
    out["bytes_moved"], out["dot_flops"] = moved, flops
    out["intensity"] = flops / moved if moved else 0.0
    return out


def _kernel_figures(
    kernel: Kernel, sizes: Mapping[str, int]
) -> tuple[int, float, float, float, float]:
    """(Bytes of all tiles, FLOPs of dots, bytes loaded and stored, deepest stages, statements)."""
    scope = TypeScope(kernel)
    tiles, deepest, count = 0, 1, 0
    flops = moved = 0.0
    trips = [1.0]

    def go(body: tuple[Stmt, ...]) -> None:
        nonlocal tiles, deepest, count, flops, moved
        for s in body:
            count += 1
            if isinstance(s, For | Parallel):
                loops = (s.var,) if isinstance(s, For) else s.vars
                deepest = max(deepest, s.stages if isinstance(s, For) else 1)
                trips.append(trips[-1] * math.prod(_trips(v, sizes) for v in loops))
                scope.enter(s)
                go(s.body)
                scope.leave(s)
                trips.pop()
            elif isinstance(s, Op):
                made = scope.define(s)
                if made is not None:
                    tiles += made.elements * made.dtype.bytes
                if isinstance(s, Dot) and made is not None and (a := scope.type_of(s.a)):
                    flops += 2.0 * made.elements * a.shape[-1] * trips[-1]
                if isinstance(s, Load | Store):
                    size = scope.tensors[s.tensor].dtype.bytes
                    moved += math.prod(scope.access_shape(s.coords)) * size * trips[-1]

    go(kernel.body)
    return tiles, flops, moved, float(deepest), float(count)


def _trips(v: LoopVar, sizes: Mapping[str, int]) -> float:
    """Iterations of a loop; one where its bounds depend on more than dims."""
    try:
        return max(0, -(-(evaluate_int(v.hi, sizes) - evaluate_int(v.lo, sizes)) // v.step))
    except (KeyError, ValueError):
        return 1
