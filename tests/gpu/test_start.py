"""What GPU targets begin with: rewrites alone, and only where they pay."""

from __future__ import annotations

import numpy as np
import pytest

from ke_ir.derive import with_derived
from ke_ir.expr import Num
from ke_ir.interpret import interpret_program
from ke_ir.ir import For, Kernel, Module, statements
from ke_ir.ops import Dot
from ke_ir.parser import parse
from ke_ir.printer import print_module
from ke_ir.verify import check
from targets.amd.target import AmdTarget
from targets.base import Target
from targets.nvidia.target import NvidiaTarget

LINEAR = "op @f(x: {t}[{m}, {k}], w: {t}[{n}, {k}]) -> (y: {t}[{m}, {n}]) {{\n" \
         "  y[i, j] = sum[l](x[i, l] * w[j, l])\n}}"  # fmt: skip
PRODUCT = LINEAR.replace("w: {t}[{n}, {k}]", "w: {t}[{k}, {n}]").replace("w[j, l]", "w[l, j]")


def begun(target: Target, text: str, **sizes: object) -> tuple[Module, Module]:
    """The derived module, and as the target begins with it, verified."""
    derived = with_derived(check(parse(text.format(**sizes))))
    return derived, check(target.start(derived, derived.programs["f"]))


def dot(module: Module) -> tuple[Kernel, Dot]:
    """The one product of f32 or f16 in a module, and its kernel."""
    found = [(k, s) for k in module.kernels.values() for s in statements(k.body)
             if isinstance(s, Dot)]  # fmt: skip
    assert len(found) == 1
    return found[0]


def tiles(kernel: Kernel) -> dict[str, int | None]:
    (parallel,) = kernel.body
    loops = [s.var for s in statements(kernel.body) if isinstance(s, For)]
    return {v.name: v.tile for v in (*parallel.vars, *loops)}  # type: ignore[union-attr]


@pytest.mark.parametrize(("text", "rows", "precision", "kernels"), [
    (LINEAR, 2048, "tf32x3", 1), (PRODUCT, 2048, "tf32x3", 2), (PRODUCT, 256, "bf16x6", 1),
])  # fmt: skip
def test_large_products_on_nvidia(text: str, rows: int, precision: str, kernels: int) -> None:
    """From parts at float32's accuracy, in larger tiles; tf32x3 where all lies along the sum.

    What does not is packed before, unless the product is too small for that to pay.
    """
    _, module = begun(NvidiaTarget(), text, t="f32", m=rows, n=16384, k=1024)
    kernel, product = dot(module)
    assert product.precision == precision and len(module.kernels) == kernels
    assert set(tiles(kernel).values()) == {128, 64} and len(tiles(kernel)) == 3


CONVOLUTION = """op @f(x: f32[{n}, 64, 66, 130], w: f32[128, 64, 3, 3])
  -> (y: f32[{n}, 128, 64, 128])
{{
  y[b, o, i, j] = sum[c, p, q](x[b, c, i + p, j + q] * w[o, c, p, q])
}}"""


def test_convolutions_read_channels_last_on_nvidia() -> None:
    derived, module = begun(NvidiaTarget(), CONVOLUTION, n=16)
    kernel, product = dot(module)
    assert product.precision == "tf32x3"
    assert {p.type.shape[-1] for p in kernel.inputs} == {Num(64)}
    assert len(module.kernels) == 3 and len(derived.kernels) == 1
    assert sorted(t for t in tiles(kernel).values() if t) == [32, 128, 128]


def test_operands_rounded_to_tf32_either_way_begin_alike() -> None:
    """Here the input is not packed, as it is for products from parts."""
    begun_at, text = {}, CONVOLUTION.format(n=2)
    for how in ("ieee", "tf32", "tf32_even"):
        derived = with_derived(check(parse(text)), {"y": how})
        module = check(NvidiaTarget().start(derived, derived.programs["f"]))
        precision = dot(module)[1].precision
        assert how in ("ieee", precision)
        begun_at[how] = print_module(module).replace(precision, "")
    assert begun_at["tf32_even"] == begun_at["tf32"] != begun_at["ieee"]


def test_the_meaning_of_a_convolution_stays() -> None:
    text = CONVOLUTION.replace("66, 130", "66, 19").replace("64, 128]", "64, 17]")
    derived, module = begun(NvidiaTarget(), text, n=9)
    assert len(module.kernels) == 3 and len(derived.kernels) == 1
    random = np.random.default_rng(0)
    inputs = {p.name: random.standard_normal(p.type.sizes({})).astype(np.float32)
              for p in module.programs["f"].inputs}  # fmt: skip
    got, want = (interpret_program(m, m.programs["f"], {}, inputs, exact=True)["y"]
                 for m in (module, derived))  # fmt: skip
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


WINDOW = """op @f(x: f32[{n}, {c}, {h}, {h}, {h}], w: f32[64, {c}, {p}, {p}, {p}])
  -> (y: f32[{n}, 64, {h} - {p} + 1, {h} - {p} + 1, {h} - {p} + 1])
{{
  y[b, o, i, j, k] = sum[c, p, q, r](x[b, c, i + p, j + q, k + r] * w[o, c, p, q, r])
}}"""


@pytest.mark.parametrize(("c", "p", "blocked"), [(3, 3, 32), (8, 3, 32), (3, 5, 128), (4, 2, 0)])
def test_windows_of_few_channels_on_nvidia(c: int, p: int, blocked: int) -> None:
    """Copied element by element, they are not pipelined; in blocks if taps nearly fill a tile."""
    _, module = begun(NvidiaTarget(), WINDOW, n=16, c=c, h=34, p=p)
    kernel, product = dot(module)
    loops = [s for s in statements(kernel.body) if isinstance(s, For)]
    assert product.precision == "tf32x3" and all(s.stages == 1 for s in loops)
    assert len(loops) == 1 + bool(blocked)
    assert not blocked or (loops[0].var.tile, loops[1].var.tile) == (None, blocked)


@pytest.mark.parametrize(("k", "kernels"), [(2949, 4), (2952, 2)])
def test_rows_of_odd_lengths_are_copied_on_nvidia(k: int, kernels: int) -> None:
    _, module = begun(NvidiaTarget(), PRODUCT, t="f32", m=8205, n=5921, k=k)
    kernel, _ = dot(module)
    assert len(module.kernels) == kernels
    assert {p.type.shape[-1] for p in kernel.inputs} == {Num(2952)}
    assert max(s.stages for s in statements(kernel.body) if isinstance(s, For)) > 1


HEADS = """op @f(x: f32[128, 512, 2304]) -> (y: f32[128, 8, 512, 512])
{{
  y[i, h, k, l] = sum[m in 0 to {d}](x[i, k, h * {d} + m] * x[i, l, h * {d} + m + {o}])
}}"""


@pytest.mark.parametrize(
    ("d", "o", "pipelined"), [(96, 768, True), (98, 784, False), (96, 1, False)]
)
def test_copies_of_16_bytes_are_in_flight_on_nvidia(d: int, o: int, pipelined: bool) -> None:
    """Heads side by side in a row: each begins at a multiple of 16 bytes, or not."""
    _, module = begun(NvidiaTarget(), HEADS, d=d, o=o)
    kernel, product = dot(module)
    stages = max(s.stages for s in statements(kernel.body) if isinstance(s, For))
    assert (stages > 1) == pipelined
    assert product.precision == ("bf16x6" if pipelined else "tf32x3")


@pytest.mark.parametrize(("n", "c", "pipelined"), [(16, 64, False), (16, 512, True), (1, 64, True)])
def test_short_sums_of_many_results_are_not_pipelined(n: int, c: int, pipelined: bool) -> None:
    text = f"""op @f(x: f32[{n}, {c}, 512, 512], w: f32[128, {c}, 1, 1])
      -> (y: f32[{n}, 128, 512, 512])
    {{{{
      y[b, o, i, j] = sum[c](x[b, c, i, j] * w[o, c, 0, 0])
    }}}}"""
    _, module = begun(NvidiaTarget(), text)
    kernel, _ = dot(module)
    stages = max(s.stages for s in statements(kernel.body) if isinstance(s, For))
    assert (stages > 1) == pipelined


def test_small_products_of_odd_rows_stay_as_they_are() -> None:
    _, module = begun(NvidiaTarget(), LINEAR, t="f32", m=256, n=256, k=333)
    kernel, _ = dot(module)
    assert len(module.kernels) == 1
    assert all(s.stages == 1 for s in statements(kernel.body) if isinstance(s, For))


@pytest.mark.parametrize(("n", "columns"), [(256, 16), (512, 16), (2048, 64), (4096, 64)])
def test_small_products_have_tiles_for_all_units(n: int, columns: int) -> None:
    """Larger ones would leave units without work, and the derived ones leave most without it."""
    derived, module = begun(NvidiaTarget(), LINEAR, t="f32", m=256, n=n, k=256)
    assert tiles(dot(derived)[0]) == {"i": 64, "j": 64, "l": 32}
    assert tiles(dot(module)[0]) == {"i": 64, "j": columns, "l": 32}
    assert dot(module)[1].precision == "tf32x3"


STEP = """op @f(x: f32[{m}, {k}], w: f32[{n}, {k}], v: f32[{n}, {k}]) -> (y: f32[{m}, {n}])
{{
  y[i, j] = tanh(sum[l](x[i, l] * w[j, l])) * sum[l](x[i, l] * v[j, l])
}}"""


@pytest.mark.parametrize(("m", "n", "k"), [(10, 256, 256), (3, 100, 1030), (16, 1000, 64)])
def test_few_rows_are_multiplied_out_in_narrow_tiles(m: int, n: int, k: int) -> None:
    """As steps of recurrences are: with tiles for a matrix unit most units would have none."""
    derived, module = begun(NvidiaTarget(), STEP, m=m, n=n, k=k)
    (kernel,) = module.kernels.values()
    assert not [s for s in statements(kernel.body) if isinstance(s, Dot)]
    units = 132
    columns = tiles(kernel)["j"] or 1
    assert units / 2 <= -(-n // columns) <= 2 * units
    random = np.random.default_rng(0)
    inputs = {p.name: random.standard_normal(p.type.sizes({})).astype(np.float32)
              for p in module.programs["f"].inputs}  # fmt: skip
    got, want = (interpret_program(m_, m_.programs["f"], {}, inputs, exact=True)["y"]
                 for m_ in (module, derived))  # fmt: skip
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("m", "n"), [(17, 256), (10, 2048)])
def test_rows_or_columns_enough_stay_products(m: int, n: int) -> None:
    _, module = begun(NvidiaTarget(), LINEAR, t="f32", m=m, n=n, k=256)
    assert dot(module)[1].precision == "tf32x3"


POOL = """op @f(x: f32[64, 64, 66, 130]) -> (y: f32[64, 64, {h}, {w}])
{{
  y[b, c, i, j] = max[p in 0 to {p}, q in 0 to {q}](x[b, c, i + p, j + q - 1 else -inf])
}}"""


@pytest.mark.parametrize(("p", "q", "loops"), [(3, 3, 1), (2, 4, 1), (3, 7, 2), (1, 3, 1)])
def test_short_windows_are_written_out_on_nvidia(p: int, q: int, loops: int) -> None:
    """Only places at the edge ask where they are, and their loads need not wait for others."""
    sizes = {"h": 67 - p, "w": 130, "p": p, "q": q}
    derived, module = begun(NvidiaTarget(), POOL, **sizes)
    (kernel,) = module.kernels.values()
    assert len([s for s in statements(kernel.body) if isinstance(s, For)]) == loops
    small = {"h": 5, "w": 7, "p": p, "q": q}
    text = POOL.replace("64, 64, 66, 130", f"2, 3, {4 + p}, 8").replace("64, 64, {h}", "2, 3, {h}")
    derived, module = begun(NvidiaTarget(), text, **small)
    random = np.random.default_rng(0)
    inputs = {v.name: random.standard_normal(v.type.sizes({})).astype(np.float32)
              for v in module.programs["f"].inputs}  # fmt: skip
    got, want = (interpret_program(m, m.programs["f"], {}, inputs, exact=True)["y"]
                 for m in (module, derived))  # fmt: skip
    np.testing.assert_array_equal(got, want)


def test_half_precision_stays() -> None:
    derived, module = begun(NvidiaTarget(), LINEAR, t="f16", m=2048, n=2048, k=256)
    assert module == derived


@pytest.mark.parametrize("text", [LINEAR, PRODUCT])
def test_the_meaning_stays(text: str) -> None:
    """Sizes that no tile divides."""
    sizes = {"m": 1800, "n": 1810, "k": 300}
    derived, module = begun(NvidiaTarget(), text, t="f32", **sizes)
    assert module != derived and 128 in tiles(dot(module)[0]).values()
    program = module.programs["f"]
    random = np.random.default_rng(0)
    inputs = {p.name: random.standard_normal(p.type.sizes({})).astype(np.float32)
              for p in program.inputs}  # fmt: skip
    got = interpret_program(module, program, {}, inputs, exact=True)["y"]
    w = inputs["w"].astype(np.float64)
    np.testing.assert_allclose(got, inputs["x"].astype(np.float64) @
                               (w.T if text is LINEAR else w), rtol=1e-9, atol=1e-9)  # fmt: skip


TWO = """op @f(x: f32[12, 512], u: f32[128, 512], v: f32[128, 512])
  -> (a: f32[12, 128], b: f32[12, 128])
{
  a[i, j] = sum[l](x[i, l] * u[j, l])
  b[i, j] = sum[l](x[i, l] * v[j, l])
}"""


COMPUTED = """op @f(x: f32[40, 2048], y: f32[40, 2048], u: f32[512, 2048], s: f32[2048])
  -> (a: f32[40, 512])
{
  a[i, j] = sum[l](max((x[i, l] - s[l]) + y[i, l], 0.0) * u[j, l])
}"""


@pytest.mark.parametrize("text", [TWO, COMPUTED])
def test_pipelines_fit_lds(text: str) -> None:
    """Three stages of all that is loaded for the products of one loop are more than 64 KiB."""
    target = AmdTarget("gfx942")
    module = with_derived(check(parse(text)))
    deep = max(s.stages for k in module.kernels.values() for s in statements(k.body)
               if isinstance(s, For))  # fmt: skip
    started = target.start(module, module.programs["f"])
    stages = [s.stages for k in started.kernels.values() for s in statements(k.body)
              if isinstance(s, For)]  # fmt: skip
    assert deep == 3 and max(stages) == 2
    roomy = AmdTarget("gfx950").start(module, module.programs["f"])
    assert roomy == module
