"""Derivations of prefixes and suffixes: one pass over the elements, of the meaning of the op."""

from __future__ import annotations

import pytest

from ke_ir.ir import For, OpDef, statements
from ke_ir.ops import Scan
from ke_ir.parser import parse
from tests.ir.derive_check import agree, derived, kernels

SHAPES = {
    "rows": ("f32[B, N]", "[b, i]", "x[b, j]", "B in 1..65536 = 4096, N in 1..9000 = 3000"),
    "columns": ("f32[N, B]", "[i, b]", "x[j, b]", "B in 1..65536 = 200, N in 1..9000 = 3000"),
    "middle": ("f16[B, N, C]", "[b, i, c]", "x[b, j, c]", "B = 7, N = 300, C = 70"),
    "line": ("f32[N]", "[i]", "x[j]", "N in 1..99999 = 50000"),
}
SIZES: dict[str, list[dict[str, int]]] = {
    "rows": [{"B": 1, "N": 1}, {"B": 5, "N": 17}, {"B": 2, "N": 1030}],
    "columns": [{"B": 1, "N": 1}, {"B": 35, "N": 131}],
    "middle": [{}, {"B": 1, "N": 1, "C": 1}],
    "line": [{"N": 1}, {"N": 2051}],
}
RANGES = ("0 to i + 1", "0 to i", "i to N", "i + 1 to N", "2 to i + 1", "i to N - 1")


def op(text: str) -> OpDef:
    return next(iter(parse(text).ops.values()))


def loops_once(o: OpDef) -> bool:
    """True if every kernel scans, in loops that are not nested."""
    found = kernels(derived(o))
    nested = any(
        isinstance(s, For) and any(isinstance(t, For) for t in statements(s.body))
        for k in found for s in statements(k.body)
    )  # fmt: skip
    return not nested and all(
        any(isinstance(s, Scan) for s in statements(k.body)) for k in found
    )  # fmt: skip


@pytest.mark.parametrize("over", RANGES)
@pytest.mark.parametrize("shape", SHAPES)
def test_place_and_direction(shape: str, over: str) -> None:
    tensor, left, element, dims = SHAPES[shape]
    out = tensor.replace("f16", "f32")
    f = op(f"op @f(x: {tensor}) -> (y: {out}) dims {dims} "
           f"{{ y{left} = sum[j in {over}]({element}) }}")  # fmt: skip
    assert loops_once(f)
    for sizes in SIZES[shape]:
        agree(derived(f), sizes)


@pytest.mark.parametrize("over", RANGES)
@pytest.mark.parametrize("kind", ["prod", "max", "min"])
def test_kinds(kind: str, over: str) -> None:
    f = op(f"""op @f(x: f32[B, N], k: i32[B, N]) -> (y: f32[B, N], z: i64[B, N])
    dims B = 300, N = 2000 {{
      y[b, i] = {kind}[j in {over}](1 + x[b, j] / 4)
      z[b, i] = min(max({kind}[j in {over}](k[b, j]), -100), 100) }}""")
    for sizes in ({"B": 3, "N": 13}, {"B": 1, "N": 1}, {"B": 2, "N": 1500}):
        agree(derived(f), sizes, limits={"k": 1})


BODIES = {
    "masked": """op @f(x: f32[B, N], m: i1[B, N]) -> (y: f32[B, N]) dims B = 300, N = 2000
      { y[b, i] = sum[j in 0 to i + 1](select(m[b, j], x[b, j], 0)) }""",
    "of_position": """op @f(x: f32[B, N]) -> (y: f32[B, N]) dims B = 300, N = 2000
      { y[b, i] = sum[j in 0 to i](x[b, j] * j) / (i + 1) + x[b, i] }""",
    "normalised": """op @f(x: f32[B, N]) -> (y: f32[B, N]) dims B = 300, N = 2000 {
        e[b, i] = exp(x[b, i] - max[j](x[b, j]))
        y[b, i] = sum[j in 0 to i + 1](e[b, j]) / sum[k](e[b, k]) }""",
    "of_a_scan": """op @f(x: f32[B, N]) -> (y: f32[B, N]) dims B = 300, N = 2000 {
        s[b, i in 0 to N] = sum[j in 0 to i + 1](x[b, j])
        y[b, i] = sum[j in i to N](s[b, j]) }""",
    "of_a_reduction": """op @f(x: f32[B, N, K]) -> (y: f32[B, N]) dims B = 300, N = 200, K = 9
      { y[b, i] = max[j in 0 to i + 1](sum[k](x[b, j, k])) }""",
    "several": """op @f(x: f32[B, N]) -> (y: f32[B, N], z: f16[B, N], w: f32[B, N])
      dims B = 300, N = 2000 {
        y[b, i] = sum[j in 0 to i + 1](x[b, j])
        z[b, i] = max[j in 0 to i](x[b, j])
        w[b, i] = y[b, i] * 2 + 1 }""",
    "outer_product": """op @f(x: f32[B, N], w: f32[N, C]) -> (y: f32[B, N, C])
      dims B = 30, N = 200, C = 40 { y[b, i, c] = sum[j in 0 to i + 1](x[b, j] * w[j, c]) }""",
    "gathered": """op @f(x: f32[V], k: i32[B, N]) -> (y: f32[B, N]) dims B = 30, N = 200, V = 5
      { y[b, i] = sum[j in 0 to i](x[k[b, j]]) }""",
    "counts": """op @f(m: i1[B, N]) -> (y: i32[B, N]) dims B = 30, N = 200
      { y[b, i] = sum[j in 0 to i](select(m[b, j], 1, 0)) }""",
    "sizes_as_numbers": """op @f(x: f32[6, 128]) -> (y: f32[6, 128])
      { y[b, i] = sum[j in i to 128](x[b, j]) + max[k in i + 2 to 128](x[b, k] + 0.5 * k) }""",
}  # fmt: skip
SMALL = [{}, {"B": 3, "N": 17}, {"B": 1, "N": 1}]


@pytest.mark.parametrize("name", BODIES)
def test_bodies(name: str) -> None:
    f = op(BODIES[name])
    module = derived(f)
    for sizes in SMALL if f.dims else [{}]:
        if name == "sizes_as_numbers" or sizes:
            agree(module, sizes, limits={"k": 5})


def test_two_scans_of_a_direction_share_a_kernel_with_what_follows() -> None:
    (k,) = kernels(derived(op(BODIES["several"])))
    assert sum(isinstance(s, Scan) for s in statements(k.body)) == 2


NOT_SCANS = {
    "uses_the_index": "sum[j in 0 to i + 1](x[b, j] * (i - j))",
    "several_at_first": "sum[j in 0 to min(i + 3, N)](x[b, j])",
    "strided": "sum[j in 0 to i // 2 + 1](x[b, j])",
    "diagonal": "sum[j in 0 to i + 1, k in 0 to 3](x[b, j] * k)",
    "many_at_last": "sum[j in i - 2 to N](x[b, j else 1.0])",
}


@pytest.mark.parametrize("name", NOT_SCANS)
def test_other_reductions_are_none(name: str) -> None:
    f = op(f"""op @f(x: f32[B, N]) -> (y: f32[B, N]) dims B = 30, N = 200
    {{ y[b, i] = {NOT_SCANS[name]} }}""")
    module = derived(f)
    found = [s for k in kernels(module) for s in statements(k.body) if isinstance(s, Scan)]
    assert not found
    agree(module, {"B": 2, "N": 9})
