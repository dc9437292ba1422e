"""What the tests of the Triton lowering share: lowering a text, and running it beside KE-IR's own
interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ke_ir.ir import Module, Param
from ke_ir.parser import parse
from ke_ir.verify import check
from lowering.triton import Traits, TritonOptions, lower

FOLDER = Path(__file__).parent
PRECISIONS = frozenset({"ieee", "tf32", "tf32_even", "tf32x3", "bf16x3", "bf16x6"})
F8 = frozenset({"f8e4m3", "f8e5m2"})
H100 = Traits("cuda", "sm_90", F8, PRECISIONS)
A100 = Traits("cuda", "sm_80", F8 - {"f8e4m3"}, PRECISIONS)
MI300 = Traits("hip", "gfx942", F8, frozenset({"ieee", "tf32", "bf16x3", "bf16x6"}))

Arrays = Mapping[str, np.ndarray[Any, Any]]
Inputs = Callable[[dict[str, int], np.random.Generator], Arrays]


def read(stem: str) -> Module:
    """A module of the folder ``kernels``."""
    return check(parse((FOLDER / "kernels" / f"{stem}.ir").read_text()))


def kernel(signature: str, dims: str, body: str) -> Module:
    """A module of one kernel ``k``."""
    line = f"dims {dims}\n" if dims else ""
    return check(parse(f"kernel @k{signature}\n{line}{{\n{body}\n}}"))


def lowered(
    module: Module,
    dims: Mapping[str, int] | None = None,
    traits: Traits = H100,
    **options: Any,
) -> str:
    """The generated text of the module's only program."""
    (program,) = module.programs.values()
    return lower(module, program, dims or {}, TritonOptions(traits, **options))


def function(text: str, name: str = "k_kernel") -> str:
    """The text of one jit function of a generated file."""
    start = text.index(f"def {name}(")
    return text[start : text.index("\n\n\n", start)]


def random_input(p: Param, sizes: dict[str, int], rng: np.random.Generator) -> Any:
    """Signed normal floats, integers from 0 to 4, fair booleans."""
    shape, d = p.type.sizes(sizes), p.type.dtype
    if d.is_bool:
        return rng.random(shape) < 0.5
    if d.is_int:
        return rng.integers(0, 5, shape).astype(d.numpy())
    return rng.standard_normal(shape).astype(np.float32).astype(d.numpy())


def run_both(
    module: Module,
    dims: Mapping[str, int] | None = None,
    name: str | None = None,
    inputs: Inputs | None = None,
    traits: Traits = H100,
) -> tuple[Arrays, Arrays]:
    """Outputs under Triton's interpreter, and those of KE-IR's (as typed)."""
    from ke_ir.interpret import interpret_program
    from targets.gpu.generated import parse as read_generated
    from targets.gpu.interpret import interpret

    program = module.programs[name or next(iter(module.programs))]
    sizes = program.sizes(dims)
    text = lower(module, program, dims or {}, TritonOptions(traits, interpret=True))
    rng = np.random.default_rng(0)
    given = {p.name: random_input(p, sizes, rng) for p in program.inputs}
    given.update(inputs(sizes, rng) if inputs else {})
    got = interpret(text, [(given, read_generated(text).outputs)])[0]
    want = interpret_program(module, program, dims, given, exact=False, check_nan=False)
    return got, want


def assert_same(got: Arrays, want: Arrays, ulps: float = 0.0, terms: int = 1) -> None:
    """Equal up to ``ulps`` roundings of the output's magnitude (in float32 or its own dtype).

    ``terms`` scales the bound for sums of that many terms in another order.
    """
    for name, expected in want.items():
        a, b = (np.asarray(x).astype(np.float64) for x in (got[name], expected))
        assert a.shape == b.shape
        assert (np.isnan(a) == np.isnan(b)).all(), name
        rest = ~(np.isnan(a) | (a == b))
        bound = ulps * terms * 2.0**-23 * np.abs(b[np.isfinite(b)]).max(initial=0.0)
        error = np.abs(a[rest] - b[rest]).max(initial=0.0)
        assert error <= bound, f"{name}: {error} > {bound}"


@pytest.fixture(autouse=True, scope="module")
def _end_workers() -> Iterator[None]:
    yield
    from targets.gpu import workers

    workers.stop_all()
