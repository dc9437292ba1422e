"""An imported op beside the module it came from, both in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from ke_ir.derive import with_derived
from ke_ir.evaluate import evaluate_op
from ke_ir.importers.torch_export import Imported, import_module
from ke_ir.interpret_program import interpret_program
from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.printer import print_module


def double(x: Any) -> Any:
    return x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x


def arguments(imported: Imported, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Arrays for the op's inputs, floats in float64."""
    given = [x for x in pytree.tree_leaves(inputs) if isinstance(x, torch.Tensor)]
    return {
        a.name: double(given[a.position] if a.source == "input" else a.tensor.clone()).numpy()
        for a in imported.arguments
    }


def expected(module: Any, inputs: tuple[Any, ...], imported: Imported) -> dict[str, Any]:
    """What PyTorch gives in float64: outputs, and buffers after the call."""
    if isinstance(module, torch.nn.Module):
        module = copy.deepcopy(module).double()
    with torch.no_grad():
        found = module(*pytree.tree_map(double, inputs))
    outs = [x for x in pytree.tree_leaves(found) if isinstance(x, torch.Tensor)]
    buffers = dict(module.named_buffers()) if isinstance(module, torch.nn.Module) else {}
    return {
        r.name: (outs[r.position] if r.source == "output" else buffers[r.path]).numpy()
        for r in imported.results
    }


def check(module: Any, inputs: tuple[Any, ...], derived: bool = False) -> Imported:
    """Imported, evaluated, and compared; the text form reads back; also derived if asked for."""
    imported = import_module(module, inputs, "f")
    given = arguments(imported, inputs)
    want = expected(module, inputs, imported)
    compare(evaluate_op(imported.op, None, given), want)
    whole = Module((imported.op,))
    assert parse(print_module(whole)) == whole
    if derived:
        full = with_derived(whole)
        compare(interpret_program(full, full.programs["f"], None, given), want)
    return imported


def compare(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert got.keys() == want.keys()
    for name, x in want.items():
        assert got[name].shape == x.shape, name
        np.testing.assert_allclose(got[name], x, rtol=1e-9, atol=1e-12, err_msg=name)
