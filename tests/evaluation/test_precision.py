"""What computes below the op's own precision is named."""

from __future__ import annotations

import pytest

from ke_ir.parser import parse
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
    [("tf32", "tf32", 1), ("tf32x3", "tf32", 3), ("bf16x3", "bf16", 3), ("bf16x6", "bf16", 6)],
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
