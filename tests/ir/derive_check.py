"""Checks a derivation against its op: verified, and of equal float64 meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ke_ir.derive import derive
from ke_ir.evaluate import evaluate_op
from ke_ir.interpret import interpret_program
from ke_ir.ir import Kernel, Module, OpDef, Program
from ke_ir.parser import parse
from ke_ir.printer import print_module
from ke_ir.types import DType
from ke_ir.verify import verify

Array = np.ndarray[Any, Any]


def random_inputs(
    op: OpDef, sizes: Mapping[str, int], seed: int = 0, limits: Mapping[str, int] | None = None
) -> dict[str, Array]:
    """Signed normal floats rounded to their dtypes; integers from 0 to ``limits`` (default 3).

    A tensor whose name begins with ``off`` gets offsets of ragged rows that end at its limit.
    """
    rng = np.random.default_rng(seed)
    out: dict[str, Array] = {}
    for p in op.inputs:
        shape = p.type.sizes(dict(sizes))
        top = (limits or {}).get(p.name, 3)
        d = p.type.dtype
        if p.name.startswith("off"):
            inner = np.sort(rng.integers(0, top + 1, shape[0] - 2))
            out[p.name] = np.concatenate([[0], inner, [top]]).astype(d.numpy())
        elif d.is_bool:
            out[p.name] = rng.random(shape) < 0.5
        elif d.is_int:
            low = 0 if d is DType.U8 or p.name in (limits or {}) else -top
            out[p.name] = rng.integers(low, top, shape).astype(d.numpy())
        else:
            out[p.name] = rng.standard_normal(shape).astype(d.numpy())
    return out


def derived(op: OpDef) -> Module:
    """The op with its derivation, which must verify and survive printing and parsing."""
    module = Module((op, *derive(op)))
    found = verify(module)
    assert not found, "\n".join(d.render() for d in found) + "\n" + print_module(module)
    text = print_module(module)
    assert parse(text).items == module.items, text
    return module


def agree(
    module: Module,
    dims: Mapping[str, int] | None = None,
    inputs: Mapping[str, Array] | None = None,
    seed: int = 0,
    limits: Mapping[str, int] | None = None,
) -> None:
    """The kernel or program of the module's op gives the op's values in float64."""
    (op,) = module.ops.values()
    given = inputs or random_inputs(op, op.sizes(dims), seed, limits)
    with np.errstate(all="ignore"):
        want = evaluate_op(op, dims, given)
        got = interpret_program(module, module.programs[op.name], dims, given, check_nan=False)
    for name, x in want.items():
        y = np.asarray(got[name])
        if op.tensors[name].dtype.is_float:
            np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-9, err_msg=print_module(module))
        else:
            np.testing.assert_array_equal(y, x, err_msg=print_module(module))


def kernels(module: Module) -> list[Kernel]:
    return list(module.kernels.values())


def is_program(module: Module) -> bool:
    return any(isinstance(i, Program) for i in module.items)
