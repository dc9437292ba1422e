"""What an AMD GPU begins with: pipelines no deeper than its LDS has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ke_ir.ir import For, statements
from ke_ir.ops import Dot, Load
from ke_ir.ops.base import Op
from ke_ir.rewrites.base import NoMatch
from ke_ir.rewrites.body import Facts, facts
from ke_ir.rewrites.schedule import SetStages

if TYPE_CHECKING:
    from ke_ir.ir import Module, Program


def started(module: Module, program: Program, lds_bytes: int) -> Module:
    """The module with ``stages`` lowered where the operands of products would not fit.

    Triton keeps what is loaded for a ``dot`` in LDS, once for each stage but the last.
    """
    for name in dict.fromkeys(call.kernel for call in program.calls):
        f = facts(module.kernels[name])
        for loop, site in f.loops.items():
            if not isinstance(site.loop, For) or site.loop.stages < 2:
                continue
            size = _operand_bytes(f, site.loop)
            deepest = 1 + lds_bytes // size if size else site.loop.stages
            if deepest < site.loop.stages:
                made = SetStages(name, loop, deepest).apply(module)
                module = module if isinstance(made, NoMatch) else made
    return module


def _operand_bytes(f: Facts, loop: For) -> int:
    """Bytes of all tiles that one iteration loads for its products, whatever is computed on the way
    (vectors, such as a bias, are not kept in LDS)."""
    loads: dict[str, int] = {}
    seen: set[str] = set()
    inside = {op.result for op in statements(loop.body) if isinstance(op, Op)}
    todo = [str(x) for op in statements(loop.body) if isinstance(op, Dot) for x in (op.a, op.b)]
    while todo:
        name = todo.pop()
        made = f.definitions.get(name)
        if name in seen or name not in inside or not isinstance(made, Op):
            continue
        seen.add(name)
        tile = f.types[name]
        if isinstance(made, Load) and len(tile.shape) > 1:
            loads[name] = tile.elements * tile.dtype.bytes
        todo += [str(x) for x in made.operands()]
    return sum(loads.values())
