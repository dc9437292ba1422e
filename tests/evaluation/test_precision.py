"""What computes below the op's own precision is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ke_ir.derive import with_derived
from ke_ir.ir import For, Kernel, Module, Parallel, statements
from ke_ir.ops import Cast, Dot, Unary
from ke_ir.ops.base import Stmt
from ke_ir.parser import parse
from ke_ir.rewrites import NoMatch, apply_text, unique_names
from ke_ir.types import DType
from ke_ir.verify import check
from search.evaluation.precision import Precision, precision_of

DOT = """
op @mm(a: {t}[32, 32], b: {t}[32, 32]) -> (c: f32[32, 32])
{{ c[i, j] = sum[k](a[i, k] * b[k, j]) }}

kernel @mm(%a: {t}[32, 32], %b: {t}[32, 32]) -> (%c: f32[32, 32])
{{
  parallel %i = 0 to 32 tile 32, %j = 0 to 32 tile 32, %k = 0 to 32 tile 32 {{
    %x = load %a[%i, %k] : {t}[32, 32]
    %y = load %b[%k, %j] : {t}[32, 32]
    {cast}
    %z = dot {operands}{precision}
    store %z, %c[%i, %j]
  }}
}}
"""


def precision(t: str, how: str = "", cast: str = "", operands: str = "%x, %y") -> Precision:
    text = DOT.format(t=t, precision=f" precision {how}" if how else "", cast=cast,
                      operands=operands)  # fmt: skip
    module = parse(text)
    check(module)
    return precision_of(module, module.programs["mm"], module.ops["mm"])


def test_the_ops_own_precision_is_not_reported() -> None:
    assert precision("f32").lower == ()
    assert precision("f16").lower == ()
    assert precision("f16").formats == (("f16", 1),)
    assert precision("f32", "ieee").formats == (("f32", 1),)


@pytest.mark.parametrize(
    ("how", "format_", "parts"),
    [
        ("tf32", "tf32", 1),
        ("tf32_even", "tf32", 1),
        ("tf32x3", "tf32", 3),
        ("bf16x3", "bf16", 3),
        ("bf16x6", "bf16", 6),
    ],
)
def test_products_of_lower_precision_are_reported(how: str, format_: str, parts: int) -> None:
    found = precision("f32", how)
    assert found.formats == ((format_, parts),)
    # Six bf16 products are as precise as one of f32.
    assert found.lower == (() if how == "bf16x6" else (f"dot at {how}",))


def test_values_cast_below_the_ops_dtypes_are_reported() -> None:
    cast = "%p = cast %x : bf16\n    %q = cast %y : bf16"
    found = precision("f32", cast=cast, operands="%p, %q")
    assert found.lower == ("values in bf16",) and found.lowest is DType.BF16
    assert found.formats == (("bf16", 1),)


MATMUL = """
op @mm(x: f32[M, K], w: f32[K, N]) -> (y: f32[M, N])
dims M = 64, K = 96, N = 64
{
  y[m, n] = sum[k](x[m, k] * w[k, n])
}
"""
STORED = ["pack_parts(@mm, %w, once)", "pack_parts(@mm_parts, %x, each)"]


def rewritten(how: str, *steps: str) -> Module:
    module = unique_names(with_derived(check(parse(MATMUL))))
    (dot,) = (s.result for s in statements(module.kernels["mm"].body) if isinstance(s, Dot))
    for step in (f"set_precision(@mm, %{dot}, {how})", f"split_dot(@mm, %{dot})", *steps):
        got = apply_text(step, module)
        assert not isinstance(got, NoMatch), got.reason
        module = got
    return check(module)


def of(module: Module) -> Precision:
    return precision_of(module, module.programs["mm"], module.ops["mm"])


@pytest.mark.parametrize("steps", [[], STORED[:1], STORED])
@pytest.mark.parametrize("how", ["bf16x3", "bf16x6"])
def test_parts_are_no_lower_than_what_they_stand_for(how: str, steps: list[str]) -> None:
    """Split in the kernel, stored by one kernel and read by another, or both."""
    found = of(rewritten(how, *steps))
    assert found.dot == how and found.lowest is DType.F32
    assert found.formats == (("bf16", int(how[-1])),)
    assert found.lower == (() if how == "bf16x6" else ("dot at bf16x3",))


@pytest.mark.parametrize("steps", [[], STORED])
def test_a_product_that_is_missing_or_twice_makes_them_bf16(steps: list[str]) -> None:
    module = rewritten("bf16x6", *steps)
    for change in ("left out", "twice"):
        wrong = Module(tuple(
            replace(i, body=_changed(i.body, change)) if isinstance(i, Kernel) else i
            for i in module.items
        ))  # fmt: skip
        assert check(wrong) != module
        assert of(wrong).lower == ("values in bf16",) and of(wrong).formats == (("bf16", 1),)


def test_a_part_that_is_used_for_itself_makes_them_bf16() -> None:
    """What is made of the first part alone has its precision."""
    module = rewritten("bf16x6")
    kernel = module.kernels["mm"]
    part = next(s for s in statements(kernel.body) if isinstance(s, Cast) and s.dtype is DType.BF16)
    (outer,) = kernel.body
    assert isinstance(outer, Parallel)

    def with_use(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        out: list[Stmt] = []
        for s in body:
            out.append(replace(s, body=with_use(s.body)) if isinstance(s, For) else s)
            if s is part:
                out.append(Unary("neg", part.result or "", result="opposite"))
        return tuple(out)

    wrong = replace(kernel, body=(replace(outer, body=with_use(outer.body)),))
    found = of(check(Module(tuple(wrong if i is kernel else i for i in module.items))))
    assert found.lower == ("values in bf16",)


def _changed(body: tuple[Stmt, ...], change: str) -> tuple[Stmt, ...]:
    """The first product that is added to another: without that, or of the other's first part."""
    out: list[Stmt] = []
    for s in body:
        if isinstance(s, For | Parallel):
            s = replace(s, body=_changed(s.body, change))
        dots = [x for x in out if isinstance(x, Dot)]
        if isinstance(s, Dot) and len(dots) == 1:
            s = replace(s, acc=None) if change == "left out" else replace(s, a=dots[0].a)
        out.append(s)
    return tuple(out)
