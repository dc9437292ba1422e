"""Generated texts compile for real, with no GPU: what the interpreter takes, Triton takes too."""

from __future__ import annotations

import pytest

from ke_ir.ir import Module
from lowering.triton import Traits
from targets.gpu.compile import compile_source
from tests.lowering_triton.conftest import A100, H100, MI300, kernel, lowered, read
from tests.lowering_triton.test_golden import CASES
from tests.lowering_triton.test_numbers import FLOATS, INTS, UNARY, dot_kernel, literal_kernel
from tests.lowering_triton.test_structure import STRUCTURES


def compiles(module: Module, traits: Traits, stage: str = "ttir") -> str:
    """Compile the module's program and return one of its stages; raises CompileFailed."""
    from targets.amd.specs import SPECS as AMD
    from targets.base import Source
    from targets.nvidia.specs import SPECS as NVIDIA

    # Triton 3.7's choice of matrix instruction for f64 on gfx942 does not compile.
    knobs = {"matrix_instr_nonkdim": 32} if traits.backend == "hip" else {}
    text = lowered(module, traits=traits, knobs=knobs)
    compiled = compile_source(Source(text, "python", ".py"), {**AMD, **NVIDIA}[traits.arch])
    assert all(compiled.binary.values())
    return compiled.stages[stage]


@pytest.mark.parametrize("traits", [H100, MI300], ids=lambda t: t.arch)
@pytest.mark.parametrize("stem", CASES)
def test_examples(stem: str, traits: Traits) -> None:
    compiles(read(stem), traits)


@pytest.mark.parametrize("traits", [H100, MI300], ids=lambda t: t.arch)
@pytest.mark.parametrize("number", ["0.1", "1e-45"])
@pytest.mark.parametrize("d", ["f64", "f32"])
def test_numbers_have_the_dtype_of_what_they_stand_beside(
    d: str, number: str, traits: Traits
) -> None:
    other = {"f64": "f32", "f32": "f64"}[d]
    assert f"tensor<64x{other}" not in compiles(literal_kernel(d, number), traits)


@pytest.mark.parametrize("traits", [H100, MI300], ids=lambda t: t.arch)
@pytest.mark.parametrize("name", STRUCTURES)
def test_structures(name: str, traits: Traits) -> None:
    compiles(STRUCTURES[name], traits)


@pytest.mark.parametrize("traits", [A100, H100, MI300], ids=lambda t: t.arch)
@pytest.mark.parametrize("d", FLOATS)
def test_functions_and_casts(d: str, traits: Traits) -> None:
    body = f"parallel %i = 0 to N tile 32 {{\n%v = load %x[%i] : {d}[32]\n"
    body += f"%l = load %x[%i + 1 else -inf] : {d}[32]\n%p = pow abs %v, %l\nstore %p, %yp[%i]\n"
    outputs = [f"%yp: {d}[N]"]
    for f in UNARY:
        body += f"%r_{f} = {f} %v\nstore %r_{f}, %y_{f}[%i]\n"
        outputs.append(f"%y_{f}: {d}[N]")
    for e in (*FLOATS, *INTS, "i1"):
        body += f"%c_{e} = cast %v : {e}\nstore %c_{e}, %z_{e}[%i]\n"
        outputs.append(f"%z_{e}: {e}[N]")
    compiles(kernel(f"(%x: {d}[N]) -> ({', '.join(outputs)})", "N = 70", body + "}"), traits)


@pytest.mark.parametrize("traits", [A100, H100, MI300], ids=lambda t: t.arch)
@pytest.mark.parametrize(
    ("d", "precision"),
    [("f8e4m3", "ieee"), ("u8", "ieee"), ("i8", "ieee"), ("f64", "ieee"), ("f32", "tf32x3"),
     ("f32", "bf16x3")],
)  # fmt: skip
@pytest.mark.parametrize("tile", [(32, 16, 64), (24, 48, 40), (16, 16, 8)])
def test_dots(d: str, precision: str, tile: tuple[int, int, int], traits: Traits) -> None:
    compiles(dot_kernel(d, precision, *tile), traits)


OUTER_PRODUCT = kernel(
    "(%x: f32[16, 32], %w: f32[32, 16]) -> (%y: f32[16, 16])",
    "",
    "parallel %i = 0 to 16 tile 16, %j = 0 to 16 tile 16 {\nfor %k = 0 to 32 tile 32 {\n"
    "%a = load %x[%i, %k] : f32[16, 32]\n%b = load %w[%k, %j] : f32[32, 16]\n"
    "%ae = expand %a dim 2\n%be = expand %b dim 0\n%p = mul %ae, %be\n"
    "%s = reduce sum %p dim 1\nstore %s, %y[%i, %j]\n}}",
)


@pytest.mark.parametrize("traits", [H100, MI300], ids=lambda t: t.arch)
@pytest.mark.parametrize(
    "module",
    [dot_kernel("f32", "ieee", 16, 16, 8), dot_kernel("f8e4m3", "ieee", 16, 16, 8), OUTER_PRODUCT],
    ids=["small f32", "small f8", "outer product"],
)
def test_a_sum_of_products_does_not_become_a_tf32_dot(module: Module, traits: Traits) -> None:
    assert "tt.dot" not in compiles(module, traits)
