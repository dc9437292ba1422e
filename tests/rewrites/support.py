"""Checks that a rewrite keeps what a program means, on given or random programs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ke_ir.derive import with_derived
from ke_ir.expr import evaluate_int
from ke_ir.interpret import interpret_program
from ke_ir.ir import Kernel, Module, Program
from ke_ir.parser import parse
from ke_ir.printer import print_module
from ke_ir.rewrites import NoMatch, Rewrite, apply_text, parse_rewrite, unique_names
from ke_ir.types import DType
from ke_ir.verify import verify

Array = np.ndarray[Any, Any]
EXAMPLES = Path(__file__).parents[2] / "examples"


def module_of(text: str) -> Module:
    """A module from text, verified, with the names that rewrites need."""
    module = parse(textwrap.dedent(text))
    assert_verifies(module)
    return unique_names(module)


def example(name: str) -> Module:
    """The op of an example with the kernel derived from it, whatever kernel stands beside it."""
    parsed = parse((EXAMPLES / f"{name}.ir").read_text())
    return unique_names(with_derived(replace(parsed, items=tuple(parsed.ops.values()))))


def assert_verifies(module: Module) -> None:
    text = print_module(module)
    found = verify(parse(text))
    assert not found, "\n".join(d.render() for d in found) + "\n" + text


def after(module: Module, *steps: str | Rewrite) -> Module:
    """The module after these steps, each of which must apply and give what verifies."""
    for step in steps:
        rewrite = parse_rewrite(step) if isinstance(step, str) else step
        assert parse_rewrite(str(rewrite)) == rewrite
        got = rewrite.apply(module)
        assert not isinstance(got, NoMatch), f"{rewrite}: {got.reason}\n{print_module(module)}"
        assert_verifies(got)
        assert got.ops == module.ops
        module = got
    return module


def refusal(module: Module, step: str) -> str:
    """Why a step does not apply."""
    got = apply_text(step, module)
    assert isinstance(got, NoMatch), f"{step} applies:\n{print_module(got)}"
    return got.reason


def draw_inputs(
    module: Module, program: Program, sizes: Mapping[str, int], seed: int = 0
) -> dict[str, Array]:
    """Signed normal floats rounded to their dtypes, small integers, conditions."""
    rng = np.random.default_rng(seed)
    out: dict[str, Array] = {}
    for p in program.inputs:
        shape = p.type.sizes(dict(sizes))
        d = p.type.dtype
        if d.is_bool:
            out[p.name] = rng.random(shape) < 0.5
        elif d.is_int:
            out[p.name] = rng.integers(0 if d is DType.U8 else -3, 4, shape).astype(d.numpy())
        else:
            out[p.name] = rng.standard_normal(shape).astype(d.numpy())
    return out


def assert_same_meaning(
    before: Module,
    changed: Module,
    name: str,
    sizes: Mapping[str, int] | None = None,
    inputs: Mapping[str, Array] | None = None,
) -> None:
    """Program ``name`` gives the same in float64 (1e-9 relative; integers exactly)."""
    program = before.programs[name]
    full = program.sizes(sizes)
    given = draw_inputs(before, program, full) if inputs is None else inputs
    with np.errstate(all="ignore"):
        want = interpret_program(before, program, full, given, check_nan=False)
        got = interpret_program(changed, changed.programs[name], full, given, check_nan=False)
    shown = print_module(before) + "\nbecame\n" + print_module(changed)
    for p in program.outputs:
        a, b = want[p.name], got[p.name]
        if p.type.dtype.is_float:
            scale = float(np.abs(a, where=np.isfinite(a), out=np.zeros_like(a)).max(initial=1.0))
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9 * scale, err_msg=shown)
        else:
            np.testing.assert_array_equal(b, a, err_msg=shown)


def examples_of(cls: type[Rewrite]) -> tuple[str, Module, Module]:
    """The text form, the module before and the module after in a rewrite's docstring."""
    doc = textwrap.dedent("    " + (cls.__doc__ or ""))
    form = re.search(rf"``({cls.name}\([^`]*\))``", doc)
    parts = re.findall(r"(Before|After):\n\n\s*```\n(.*?)```", doc, re.DOTALL)
    assert form, f"the docstring of {cls.name} shows no ``{cls.name}(...)``"
    assert [p[0] for p in parts] == ["Before", "After"], f"{cls.name} shows no Before and After"
    before, changed = (module_of(p[1]) for p in parts)
    return form[1], before, changed


def small(module: Module, limit: int = 40) -> dict[str, int]:
    """Sizes for a quick check: ranges cut down, static dims as they are."""
    (program,) = [p for n, p in module.programs.items() if n in module.ops]
    out = {}
    for d in program.dims:
        size = evaluate_int(d.size, out)
        out[d.name] = max(d.low or 1, min(size, limit)) if d.is_range else size
    return out


def only_kernel(module: Module) -> Kernel:
    (k,) = module.kernels.values()
    return k
