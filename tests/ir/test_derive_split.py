"""Long reductions: computed in parts where few programs would go through them, or accuracy asks."""

from __future__ import annotations

import numpy as np
import pytest

from ke_ir.expr import evaluate_int
from ke_ir.interpret import interpret_program
from ke_ir.ir import Module, Parallel, statements
from ke_ir.ops import Dot
from ke_ir.parser import parse
from tests.ir.derive_check import agree, derived

SUMS = "op @f(x: f32[{rows}, {terms}]) -> (y: f32[{rows}]) {{\n  y[i] = {kind}[j](x[i, j])\n}}"
PRODUCT = """op @f(a: f32[{m}, {k}], b: f32[{k}, {n}]) -> (y: f32[{m}, {n}]) {{
  y[i, j] = sum[l](a[i, l] * b[l, j])
}}"""


def module(text: str, **sizes: object) -> Module:
    return derived(parse(text.format(**sizes)).ops["f"])


def parts(m: Module) -> tuple[int, ...]:
    """The shape of the partial results; empty if one kernel does it all."""
    found = [t.sizes({}) for n, t in m.programs["f"].temps.items() if n.endswith("_parts")]
    return found[0] if found else ()


@pytest.mark.parametrize("kind", ["sum", "max", "prod"])
@pytest.mark.parametrize("terms", [65536, 65537, 100003])
def test_few_long_reductions(kind: str, terms: int) -> None:
    """Also where the parts do not divide the whole. Each part is next to the same of other rows."""
    m = module(SUMS, rows=3, terms=terms, kind=kind)
    assert parts(m) == (-(-terms // 4096), 3)
    agree(m)


COLUMNS = "op @f(x: f32[{terms}, {n}]) -> (y: f32[{n}]) {{\n  y[j] = sum[i](x[i, j])\n}}"


@pytest.mark.parametrize(
    ("terms", "n", "want"),
    [(16384, 4096, (32, 4096)), (1024, 8192, (16, 8192)), (4096, 40000, ()), (300, 4096, ())],
)
def test_columns_count_by_tiles(terms: int, n: int, want: tuple[int, ...]) -> None:
    """A program sums many columns next to each other, so there are fewer programs than columns."""
    assert parts(module(COLUMNS, terms=terms, n=n)) == want


def test_rows_that_read_their_mean_are_no_columns() -> None:
    text = """op @f(x: f32[4096, 4000]) -> (y: f32[4096]) {
      m[i] = sum[j](x[i, j]) / 4000
      y[i] = sum[j](exp(x[i, j] - m[i]))
    }"""
    assert len(derived(parse(text).ops["f"]).kernels) == 1


def test_columns_in_parts_add_up() -> None:
    m = module(COLUMNS, terms=5000, n=130)
    assert parts(m)
    agree(m)


IMAGES = """op @f(x: f32[{n}, {c}, {h}, {w}]) -> (y: f32[{c}]) {{
  y[c] = sum[n, h, w](x[n, c, h, w])
}}"""
ALL = """op @f(x: f32[{n}, {h}, {w}]) -> (y: f32[]) {{
  y[] = sum[n, h, w](x[n, h, w])
}}"""


@pytest.mark.parametrize(
    ("sizes", "want"),
    [
        ((112, 64, 512), (112, 8)),  # too few images: rows of each in parts as well
        ((112, 63, 512), (112, 8)),
        ((2, 3, 1 << 16), (2, 3, 16)),  # each range that is used up counts parts itself
        ((4096, 64, 512), (1024,)),  # enough of them
        ((30, 64, 80), (30,)),  # no part of less than a tile
    ],
)
def test_outer_ranges_give_parts_together(
    sizes: tuple[int, int, int], want: tuple[int, ...]
) -> None:
    n, h, w = sizes
    assert parts(module(ALL, n=n, h=h, w=w)) == want


def test_parts_of_several_ranges_add_up() -> None:
    for n, h, w in ((3, 7, 1 << 14), (5, 96, 160)):
        m = module(ALL, n=n, h=h, w=w)
        assert len(parts(m)) > 1
        agree(m)


def test_statistics_of_channels_keep_a_large_gpu_busy() -> None:
    """Programs of the kernel that reads an image: its parts for each channel."""
    for n, size in ((128, 126), (64, 512), (10, 224)):
        m = module(IMAGES, n=n, c=64, h=size, w=size)
        first = next(iter(m.kernels.values()))
        (top,) = first.body
        assert isinstance(top, Parallel)
        count = 1
        for v in top.vars:
            count *= -(-evaluate_int(v.hi, {}) // (v.tile or 1))
        assert 512 <= count <= 2048


def test_products_of_long_rows() -> None:
    """A product with few tiles and many terms: the parts are products too."""
    m = module(PRODUCT, m=24, n=40, k=65536)
    assert parts(m) == (16, 24, 40)
    dots = [s for k in m.kernels.values() for s in statements(k.body) if isinstance(s, Dot)]
    assert len(dots) == 1
    agree(m)


@pytest.mark.parametrize(
    ("rows", "terms", "want"),
    [
        (300, 65536, ()),  # enough rows for every unit
        (3, 60000, ()),  # too short to pay for a second kernel
        (300, 1 << 19, (8, 300)),  # deep enough to lose accuracy
        (300, (1 << 19) - 1, ()),
    ],
)
def test_when_it_pays(rows: int, terms: int, want: tuple[int, ...]) -> None:
    assert parts(module(SUMS, rows=rows, terms=terms, kind="sum")) == want


def test_parts_keep_the_accuracy_of_float32() -> None:
    """In the dtypes that a kernel computes in, against float64."""
    m = module(SUMS, rows=2, terms=1 << 20, kind="sum")
    x = np.random.default_rng(0).random((2, 1 << 20)).astype(np.float32)
    got = interpret_program(m, m.programs["f"], {}, {"x": x}, exact=False)["y"]
    want = x.astype(np.float64).sum(1)
    assert np.abs(got / want - 1).max() < 3e-7
