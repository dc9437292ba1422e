"""The ``kea`` dialect: commands of the accelerator on tiles in its local memory.

Operations have no regions: control flow is ``scf``, indices are ``arith``, tiles are ``memref`` in
memory space 1 (local memory) and tensors ``memref`` arguments. Commands write their first operand.
This module only holds the table of operations and renders it as IRDL text; it imports no MLIR.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ke_ir.ops.arith import BINARY, COMPARE, UNARY
from ke_ir.ops.memory import ACCUMULATIONS
from ke_ir.ops.shape import PRECISIONS, SCANS, TILE_REDUCTIONS

LOCAL_SPACE = 1
"""The memory space of tiles; tensors are in the default one."""

# Constraints by short name. An IRDL value used twice stands for one type or attribute, so the same
# name written twice in an operation means that both must be equal.
_CONSTRAINTS = {
    "tile": 'irdl.base "!builtin.memref"',
    "tensor": 'irdl.base "!builtin.memref"',
    "index": "irdl.is index",
    "int": 'irdl.base "#builtin.integer"',
    "ints": 'irdl.base "#builtin.dense_array"',
    "name": 'irdl.base "#builtin.string"',
    "flag": 'irdl.base "#builtin.integer"',
    "number": "irdl.any",
}
MAPPING = ("dynamic", "round_robin", "blocked")


@dataclass(frozen=True)
class OpSpec:
    """One operation: operands as ``name: constraint``, attributes (a constraint, or the strings
    allowed) and the constraint of its result, if it has one.

    Before a constraint ``*`` marks a variadic group and ``?`` an operand that may be absent;
    ``=name`` is one type wherever it stands.
    """

    doc: str
    operands: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    result: str = ""


MAX_RANK = 8
"""Dimensions of a tile or tensor, at most."""

# A variadic group has one type in IRDL, but integer tiles differ in shape: each is an operand of
# its own, present where its coordinate needs one.
_INDICES = {f"index{d}": "?tile" for d in range(MAX_RANK)}
_ACCESS = {"tile": "tile", "tensor": "tensor", "bases": "*index", "limits": "*index", **_INDICES}
_STEPS: dict[str, str | tuple[str, ...]] = {"steps": "ints"}

OPS: Mapping[str, OpSpec] = {
    "kernel": OpSpec("Start of a kernel.", {}, {"mapping": MAPPING}),
    "end": OpSpec("End of a kernel: waits for every PE."),
    "bind": OpSpec("Makes a tensor known to the memory system.", {"tensor": "tensor"}),
    "view": OpSpec(
        "The contiguous part of a tensor at leading indices.",
        {"tensor": "tensor", "at": "*index"}, {}, "tensor",
    ),
    "initialise": OpSpec(
        "Sets a tensor to the identity of an accumulation.",
        {"tensor": "tensor"}, {"fn": ACCUMULATIONS},
    ),
    "buffer": OpSpec(
        "Reserves local memory: `copies` of `bytes` at `offset`, used in turn by loads.",
        {}, {"id": "int", "offset": "int", "bytes": "int", "copies": "int"},
    ),
    "tile": OpSpec(
        "A tile in a buffer. `control`: its values decide addresses or bounds.",
        {}, {"buffer": "int", "control": "flag"}, "tile",
    ),
    "instance": OpSpec(
        "Gives the body that follows to a PE.", {"index": "index", "count": "index"}
    ),
    "loop_step": OpSpec("The scalar core's work for one iteration of a loop."),
    "load": OpSpec(
        "DMA into a tile. Coordinate d is bases[d] + sum(steps[d][r] * i_r) + the integer tile "
        "index<d>; what lies outside the tensor or past the limits reads as `pad`.",
        _ACCESS, {**_STEPS, "pad": "number"},
    ),
    "store": OpSpec("DMA out of a tile; nothing outside is written.", _ACCESS, _STEPS),
    "accumulate": OpSpec("Atomic update by DMA.", _ACCESS, {**_STEPS, "fn": ACCUMULATIONS}),
    "read": OpSpec(
        "A one-element integer tile as an index of the scalar core, which waits for it.",
        {"tile": "tile"}, {}, "index",
    ),
    "fill": OpSpec("Sets every element.", {"dst": "tile"}, {"value": "number"}),
    "iota": OpSpec(
        "base, base + step, ... in row-major order.", {"dst": "tile", "base": "index"},
        {"step": "int"},
    ),
    "unary": OpSpec("dst = fn(x).", {"dst": "=t", "x": "=t"}, {"fn": UNARY}),
    "binary": OpSpec(
        "dst = fn(x, y); sizes of 1 stretch.", {"dst": "tile", "x": "tile", "y": "tile"},
        {"fn": BINARY},
    ),
    "cmp": OpSpec(
        "dst = x pred y, of i1.", {"dst": "tile", "x": "tile", "y": "tile"}, {"pred": COMPARE}
    ),
    "select": OpSpec(
        "dst = c ? x : y.", {"dst": "tile", "c": "tile", "x": "tile", "y": "tile"}
    ),
    "cast": OpSpec("Converts the element type.", {"dst": "tile", "x": "tile"}),
    "broadcast": OpSpec(
        "Copies; sizes of 1, or a scalar, stretch.", {"dst": "tile", "x": "tile"}
    ),
    "reduce": OpSpec(
        "Combines along a dimension, which goes away.", {"dst": "tile", "x": "tile"},
        {"fn": TILE_REDUCTIONS, "dim": "int"},
    ),
    "scan": OpSpec(
        "Inclusive prefixes along a dimension.", {"dst": "=t", "x": "=t"},
        {"fn": SCANS, "dim": "int", "reverse": "flag"},
    ),
    "permute": OpSpec(
        "dst's dimension i is x's dimension order[i].", {"dst": "tile", "x": "tile"},
        {"order": "ints"},
    ),
    "reshape": OpSpec("The same bytes under another shape.", {"x": "tile"}, {}, "tile"),
    "dot": OpSpec(
        "dst (+)= a x b over the last dimension of a and the last but one of b.",
        {"dst": "tile", "a": "tile", "b": "tile"},
        {"precision": PRECISIONS, "accumulate": "flag"},
    ),
}  # fmt: skip


def _operation(name: str, op: OpSpec) -> list[str]:
    lines = [f"  irdl.operation @{name} {{"]
    shared: dict[str, str] = {}

    def constraint(spec: str | tuple[str, ...]) -> str:
        key = repr(spec)
        if isinstance(spec, str) and spec.startswith("=") and key in shared:
            return shared[key]
        value = f"%c{len(lines)}"
        if isinstance(spec, tuple):
            options = [f"{value}_{i}" for i in range(len(spec))]
            lines.extend(f'    {o} = irdl.is "{s}"' for o, s in zip(options, spec, strict=True))
            lines.append(f"    {value} = irdl.any_of({', '.join(options)})")
        else:
            word = spec.lstrip("*?")
            body = _CONSTRAINTS["tile" if word.startswith("=") else word]
            lines.append(f"    {value} = {body}")
        shared[key] = value
        return value

    many = {"*": "variadic ", "?": "optional "}
    operands = [f"{n}: {many.get(s[0], '')}{constraint(s)}" for n, s in op.operands.items()]
    attributes = [f'"{n}" = {constraint(s)}' for n, s in op.attributes.items()]
    result = constraint(op.result) if op.result else ""
    if operands:
        lines.append(f"    irdl.operands({', '.join(operands)})")
    if attributes:
        lines.append(f"    irdl.attributes {{ {', '.join(attributes)} }}")
    if result:
        lines.append(f"    irdl.results(result: {result})")
    return [*lines, "  }"]


def irdl_text() -> str:
    """The dialect as an IRDL module, to be loaded into a context."""
    body = [line for name, op in OPS.items() for line in _operation(name, op)]
    return "\n".join(["irdl.dialect @kea {", *body, "}", ""])
