"""Means and squared deviations of long rows: the data is loaded once for both."""

from __future__ import annotations

import numpy as np
import pytest

from ke_ir.derive.assemble import LOCAL_BYTES
from ke_ir.derive.footprint import peak_bytes
from ke_ir.interpret import interpret_program
from ke_ir.ir import Kernel, Module, statements
from ke_ir.ops import Iota, Load
from ke_ir.parser import parse
from tests.ir.derive_check import agree, derived

IMAGES = """op @f(x: {dtype}[{n}, {c}, {h}, {w}]) -> (mean: {out}[{c}], var: {out}[{c}]) {{
  mean[c] = sum[n, h, w](x[n, c, h, w]) / {terms}
  var[c] = sum[n, h, w]((x[n, c, h, w] - mean[c]) * (x[n, c, h, w] - mean[c])) / {terms}
}}"""
COLUMNS = """op @f(x: f32[{n}, {c}]) -> (y: f32[{n}, {c}]) {{
  mean[c] = sum[n](x[n, c]) / {n}
  var[c] = sum[n]((x[n, c] - mean[c]) * (x[n, c] - mean[c])) / {n}
  y[n, c] = (x[n, c] - mean[c]) * rsqrt(var[c] + 1e-5)
}}"""
ROWS = """op @f(x: f32[{n}, {c}]) -> (y: f32[{n}, {c}]) {{
  mean[n] = sum[c](x[n, c]) / {c}
  var[n] = sum[c]((x[n, c] - mean[n]) * (x[n, c] - mean[n])) / {c}
  y[n, c] = (x[n, c] - mean[n]) * rsqrt(var[n] + 1e-5)
}}"""
GROUPS = """op @f(x: f32[{n}, {c}, {h}, {w}]) -> (mean: f32[{n}, {g}], var: f32[{n}, {g}]) {{
  mean[i, j in 0 to {g}] = sum[k in 0 to {k}, h, w](x[i, j * {k} + k, h, w]) / {terms}
  var[i, j] = sum[k in 0 to {k}, h, w](
    (x[i, j * {k} + k, h, w] - mean[i, j]) * (x[i, j * {k} + k, h, w] - mean[i, j])) / {terms}
}}"""


def images(n: int, c: int, h: int, w: int, dtype: str = "f32", out: str = "f32") -> Module:
    text = IMAGES.format(n=n, c=c, h=h, w=w, terms=n * h * w, dtype=dtype, out=out)
    return derived(parse(text).ops["f"])


def columns(n: int, c: int) -> Module:
    return derived(parse(COLUMNS.format(n=n, c=c)).ops["f"])


def groups(n: int, g: int, k: int, h: int, w: int) -> Module:
    text = GROUPS.format(n=n, c=g * k, g=g, k=k, h=h, w=w, terms=k * h * w)
    return derived(parse(text).ops["f"])


def loads(k: Kernel, tensor: str) -> int:
    return sum(isinstance(s, Load) and s.tensor == tensor for s in statements(k.body))


def parts(m: Module) -> list[tuple[int, ...]]:
    """The shapes of the squares in parts, level by level."""
    temps = m.programs["f"].temps if "f" in m.programs else {}
    return [t.sizes({}) for n, t in temps.items() if "sum_parts" in n and not n.startswith("mean")]


def reads_once(m: Module) -> None:
    """One kernel makes the statistics' parts, from one load; what any target holds is enough."""
    made = [k for k in m.kernels.values() if any("sum_parts" in p.name for p in k.outputs)]
    assert [loads(k, "x") for k in made] == [1] + [0] * (len(made) - 1)
    assert all(peak_bytes(k) <= LOCAL_BYTES for k in m.kernels.values())


@pytest.mark.parametrize(
    ("sizes", "want"),
    [
        ((4, 3, 128, 160), [(4, 8, 3)]),  # 16 rows of an image
        ((3, 2, 150, 151), [(3, 10, 2)]),  # the last part has 6 rows
        ((30, 5, 47, 49), [(30, 5)]),  # an image is a part
        ((1500, 2, 7, 7), [(24, 2)]),  # 64 images are one, and 28 the last
        ((2, 2, 3, 20000), [(2, 3, 5, 2)]),  # a row in parts
        ((1, 1, 1, 100003), [(1, 1, 25, 1)]),
        ((33, 129, 64, 64), [(33, 129)]),
    ],
)
def test_statistics_of_channels(sizes: tuple[int, int, int, int], want: object) -> None:
    m = images(*sizes)
    assert parts(m) == want
    reads_once(m)
    agree(m)


@pytest.mark.parametrize("channels", [64, 1000])
def test_many_parts_are_put_together_as_a_tree(channels: int) -> None:
    """Each level is made of means and squares, as the first one is."""
    m = images(24, channels, 512, 512)
    across = min(128, 1 << (channels - 1).bit_length())
    first, *others = parts(m)
    assert first == (24, 64, channels) and others
    assert all(np.prod(p) // channels * across <= 1 << 14 for p in others[-1:])
    reads_once(m)


def test_levels_add_up() -> None:
    m = images(70, 130, 33, 65)
    assert len(parts(m)) == 2
    reads_once(m)
    agree(m)


def test_only_padding_is_masked() -> None:
    """A part of 16 rows of 256 fills its tile; the last one of 150 rows has 6 of 16."""
    for h, w, tiles in ((128, 256, 1), (150, 256, 2)):
        first = next(iter(images(4, 3, h, w).kernels.values()))
        assert (
            sum(isinstance(s, Iota) and len(s.type.shape) for s in statements(first.body)) == tiles
        )


@pytest.mark.parametrize(("dtype", "out"), [("f16", "f16"), ("bf16", "f32"), ("f64", "f64")])
def test_dtypes(dtype: str, out: str) -> None:
    m = images(3, 2, 150, 151, dtype, out)
    reads_once(m)
    agree(m)


@pytest.mark.parametrize(("n", "c"), [(1000, 130), (4099, 64), (70001, 3)])
def test_columns(n: int, c: int) -> None:
    m = columns(n, c)
    assert parts(m)
    reads_once(m)
    agree(m)


def test_columns_of_a_large_matrix() -> None:
    m = columns(16384, 4096)
    assert parts(m) == [(512, 4096), (16, 4096)]
    reads_once(m)


def test_groups_of_channels() -> None:
    m = groups(2, 3, 5, 120, 121)
    assert parts(m) == [(5, 4, 2, 3)]
    reads_once(m)
    agree(m)
    assert parts(groups(112, 8, 8, 512, 512)) == [(8, 64, 112, 8)]


def test_long_rows_whatever_their_number() -> None:
    m = derived(parse(ROWS.format(n=3, c=70000)).ops["f"])
    reads_once(m)
    agree(m)
    assert parts(derived(parse(ROWS.format(n=4096, c=65536)).ops["f"])) == [(16, 4096)]


@pytest.mark.parametrize("terms", [1024, 16384])
def test_rows_that_stay_near_are_left_in_one_kernel(terms: int) -> None:
    m = derived(parse(ROWS.format(n=2048, c=terms)).ops["f"])
    assert len(m.kernels) == 1


def test_sizes_known_only_when_it_runs() -> None:
    text = """op @f(x: f32[N, C, D]) -> (mean: f32[C], var: f32[C])
    dims N in 1..4096 = 1024, C = 3, D in 1..1000 = 100 {
      mean[c] = sum[n, d](x[n, c, d]) / (N * D)
      var[c] = sum[n, d]((x[n, c, d] - mean[c]) * (x[n, c, d] - mean[c])) / (N * D)
    }"""
    m = derived(parse(text).ops["f"])
    reads_once(m)
    for n, d in ((1, 1), (33, 100), (70, 301)):
        agree(m, {"N": n, "D": d})


@pytest.mark.parametrize(
    "deviation",
    [
        "x[i, j] * y[i, j] - mean[i]",  # several tensors
        "x[i, j] - mean[i] - y[i, j]",  # no sum of what it starts from
        "y[i, j] - mean[i]",
        "x[i, j] - z[j]",  # not one number for all terms
    ],
)
def test_other_sums_are_left_alone(deviation: str) -> None:
    text = f"""op @f(x: f32[3, 70000], y: f32[3, 70000], z: f32[70000]) -> (v: f32[3]) {{
      mean[i] = sum[j](x[i, j]) / 70000
      v[i] = sum[j](({deviation}) * ({deviation})) + mean[i]
    }}"""
    m = derived(parse(text).ops["f"])
    assert not any(len(k.outputs) > 1 and loads(k, "x") for k in m.kernels.values())
    agree(m)


def test_any_number_may_be_taken_off() -> None:
    text = """op @f(x: f32[3, 70000], z: f32[3]) -> (v: f32[3]) {
      total[i] = sum[j](x[i, j] * 2)
      v[i] = sum[j]((x[i, j] * 2 - z[i]) * (x[i, j] * 2 - z[i])) + total[i]
    }"""
    m = derived(parse(text).ops["f"])
    reads_once(m)
    agree(m)


def test_a_large_mean_costs_no_accuracy() -> None:
    """A mean of 10,000 deviations, in the dtypes that a kernel computes in, against float64.

    Two passes over such data are off by 1e-6 to 5e-6, as the mean itself is rounded; the mean of
    squares less the square of the mean, by more than the variance.
    """
    m = images(16, 8, 128, 160)
    x = np.random.default_rng(0).normal(1e4, 1, (16, 8, 128, 160)).astype(np.float32)
    got = interpret_program(m, m.programs["f"], {}, {"x": x}, exact=False)["var"]
    want = x.astype(np.float64).var((0, 2, 3))
    assert np.abs(got / want - 1).max() < 5e-6
