"""Random coordinates, in kernels and in ops, against element-by-element Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ke_ir.evaluate import EvaluationError, evaluate_op
from ke_ir.expr import Expr, evaluate_int, show
from ke_ir.interpret import interpret_kernel
from ke_ir.parser import parse


@st.composite
def coordinate(draw: st.DrawFn) -> str:
    """A quasi-affine text over ``I``, ``J`` and numbers."""
    terms = []
    for v in ("I", "J"):
        c = draw(st.integers(-2, 3))
        if c:
            terms.append(f"{c} * {v}" if c > 0 else f"0 - {-c} * {v}")
    text = " + ".join(f"({t})" for t in terms) or "0"
    text = f"({text} + {draw(st.integers(0, 6))})"
    return text + draw(st.sampled_from(["", "", " // 2", " % 3"]))


def _expr(text: str) -> Expr:
    op = parse(f"op @f(x: f32[N]) -> (y: f32[N]) dims N = 9 {{ y[n] = {text} }}").ops["f"]
    return op.equations[0].rhs


@settings(max_examples=150, deadline=None)
@given(
    coordinate(), coordinate(), st.integers(1, 7), st.integers(1, 9), st.integers(1, 9),
    st.integers(1, 6), st.integers(1, 6),
)  # fmt: skip
def test_loads_of_any_coordinates(
    a: str, b: str, tile: int, rows: int, columns: int, height: int, width: int
) -> None:
    """Tiles over I and J; what lies outside the tensor or past a loop's end reads as 7."""
    ca, cb = (c.replace("I", "%i").replace("J", "%j") for c in (a, b))
    order = list(dict.fromkeys(ch for ch in ca + cb if ch in "ij"))
    assume(len(order) == 2)
    shape = f"[{tile}, {tile}]"
    swap = "" if order == ["i", "j"] else f"%v = permute %u {[1, 0]}\n"
    text = f"""
    kernel @k(%x: f32[R, C]) -> (%y: f32[H, W])
    dims R = {rows}, C = {columns}, H = {height}, W = {width}
    {{
      parallel %i = 0 to H tile {tile}, %j = 0 to W tile {tile} {{
        %{"v" if not swap else "u"} = load %x[{ca}, {cb} else 7.0] : f32{shape}
        {swap}store %v, %y[%i, %j]
      }}
    }}
    """
    x = np.random.default_rng(0).standard_normal((rows, columns))
    got = interpret_kernel(parse(text).kernels["k"], None, {"x": x})["y"]
    ea, eb = (_expr(c.replace("I", "i").replace("J", "j")) for c in (a, b))
    for i in range(height):
        for j in range(width):
            at = (evaluate_int(ea, {"i": i, "j": j}), evaluate_int(eb, {"i": i, "j": j}))
            inside = 0 <= at[0] < rows and 0 <= at[1] < columns
            assert got[i, j] == (x[at] if inside else 7.0), (i, j, at, show(ea), show(eb))


@settings(max_examples=150, deadline=None)
@given(
    coordinate(), coordinate(), st.integers(1, 9), st.integers(1, 9), st.integers(1, 6),
    st.integers(1, 6), st.booleans(),
)  # fmt: skip
def test_subscripts_of_any_form(
    a: str, b: str, rows: int, columns: int, height: int, width: int, fill: bool
) -> None:
    """The same subscripts in an op; without ``else`` one outside must be refused."""
    a, b = (c.replace("I", "i").replace("J", "j") for c in (a, b))
    tail = " else 7" if fill else ""
    text = f"""
    op @f(x: f32[R, C]) -> (y: f32[H, W])
    dims R = {rows}, C = {columns}, H = {height}, W = {width}
    {{ y[i, j] = x[{a}, {b}{tail}] }}
    """
    op = parse(text).ops["f"]
    x = np.random.default_rng(0).standard_normal((rows, columns))
    ea, eb = _expr(a), _expr(b)
    want = np.full((height, width), 7.0)
    outside = False
    for i in range(height):
        for j in range(width):
            at = (evaluate_int(ea, {"i": i, "j": j}), evaluate_int(eb, {"i": i, "j": j}))
            if 0 <= at[0] < rows and 0 <= at[1] < columns:
                want[i, j] = x[at]
            else:
                outside = True
    if outside and not fill:
        with pytest.raises(EvaluationError, match="outside 0 to"):
            evaluate_op(op, None, {"x": x})
    else:
        np.testing.assert_array_equal(evaluate_op(op, None, {"x": x})["y"], want)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 3), st.integers(-3, 4), st.integers(1, 12), st.integers(1, 7),
    st.integers(0, 4), st.integers(0, 9),
)  # fmt: skip
def test_strided_loops_over_any_part(
    step: int, shift: int, size: int, tile: int, lo: int, hi: int
) -> None:
    """A sum over a loop from lo to hi of elements step * d + shift, 0 outside."""
    sign = "+" if shift >= 0 else "-"
    text = f"""
    kernel @k(%x: f32[N]) -> (%y: f32[])
    dims N = {size}
    {{
      parallel %b = 0 to 1 {{
        for %d = {lo} to {hi} tile {tile} {{
          %v = load %x[{step} * %d {sign} {abs(shift)}] : f32[{tile}]
          %r = reduce sum %v dim 0
          accumulate add %r, %y[]
        }}
      }}
    }}
    """
    x = np.random.default_rng(0).standard_normal(size)
    kernel = parse(text).kernels["k"]
    got = interpret_kernel(kernel, None, {"x": x})["y"]
    at = step * np.arange(lo, hi) + shift
    np.testing.assert_allclose(got, x[at[(at >= 0) & (at < size)]].sum(), atol=1e-13)
