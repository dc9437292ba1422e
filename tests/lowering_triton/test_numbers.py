"""Generated texts under Triton's interpreter give what KE-IR's interpreter gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ke_ir.ir import Module
from ke_ir.parser import parse
from tests.ir.derive_check import derived
from tests.lowering_triton.conftest import assert_same, kernel, lowered, read, run_both

UNARY = [
    "exp", "exp2", "log", "log2", "sqrt", "rsqrt", "sin", "cos", "tan", "tanh", "sigmoid", "erf",
    "floor", "ceil", "round", "trunc", "abs", "neg",
]  # fmt: skip
FLOATS = ["f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2"]
INTS = ["i64", "i32", "i16", "i8", "u8"]


@pytest.mark.parametrize(
    ("stem", "dims"),
    [
        ("rms_norm", {"B": 1, "D": 256}),
        ("rms_norm", {"B": 13, "D": 1000}),
        ("matmul_gelu", {"M": 37, "K": 64, "N": 100}),
        ("attention", {"B": 1, "H": 2, "N": 256, "D": 64}),
        ("attention", {"B": 1, "H": 1, "N": 100, "D": 40}),
        ("conv1d", {"B": 3, "C": 20, "O": 16, "L": 21}),
    ],
)
def test_examples(stem: str, dims: dict[str, int]) -> None:
    assert_same(*run_both(read(stem), dims), ulps=8, terms=64)


def test_jagged_gather() -> None:
    def inputs(sizes: dict[str, int], rng: np.random.Generator) -> dict[str, Any]:
        ends = np.array([0, 5, 5, 64, 200], np.int32)
        return {"offsets": ends, "ids": rng.integers(0, sizes["V"], sizes["T"]).astype(np.int32)}

    dims = {"V": 11, "D": 128, "T": 200, "B": 4}
    assert_same(*run_both(read("embedding_sum"), dims, inputs=inputs), ulps=8, terms=64)


@pytest.mark.parametrize("d", FLOATS)
def test_unary(d: str) -> None:
    body = f"parallel %i = 0 to N tile 32 {{\n%v = load %x[%i] : {d}[32]\n%p = add abs %v, 0.0625\n"
    for f in UNARY:
        x = "%p" if f in ("log", "log2", "sqrt", "rsqrt") else "%v"
        body += f"%r_{f} = {f} {x}\nstore %r_{f}, %y_{f}[%i]\n"
    outputs = ", ".join(f"%y_{f}: {d}[N]" for f in UNARY)
    module = kernel(f"(%x: {d}[N]) -> ({outputs})", "N in 1..1000 = 100", body + "}")
    assert_same(*run_both(module), ulps=2)


def test_tanh_is_accurate_near_zero_and_far_out() -> None:
    x = np.concatenate([np.logspace(-30, 2, 500), -np.logspace(-30, 2, 500)]).astype(np.float32)
    body = "parallel %i = 0 to N tile 256 {\n%v = load %x[%i] : f32[256]\n"
    module = kernel("(%x: f32[N]) -> (%y: f32[N])", "N = 1000",
                    body + "%t = tanh %v\nstore %t, %y[%i]\n}")  # fmt: skip
    got, _ = run_both(module, inputs=lambda sizes, rng: {"x": x})
    exact = np.tanh(x.astype(np.float64))
    assert (np.abs(got["y"] - exact) <= 2.0**-22 * np.abs(exact)).all()


@pytest.mark.parametrize("fn", ["exp", "sigmoid"])
def test_exponentials_are_accurate_however_large_the_argument(fn: str) -> None:
    """Also where they are below the smallest normal number, and beyond what float32 holds."""
    x = np.linspace(-110, 95, 9990).astype(np.float32)
    edges = [np.inf, -np.inf, np.nan, 0.0, -0.0, 88.72283, 88.72284, -103.97, -1e-30, 1e30]
    x = np.concatenate([x, np.array(edges, np.float32)])
    body = "parallel %i = 0 to N tile 1024 {\n%v = load %x[%i] : f32[1024]\n"
    module = kernel("(%x: f32[N]) -> (%y: f32[N])", "N = 10000",
                    body + f"%t = {fn} %v\nstore %t, %y[%i]\n}}")  # fmt: skip
    got, _ = run_both(module, inputs=lambda sizes, rng: {"x": x})
    with np.errstate(over="ignore", divide="ignore"):
        wide = np.exp(x.astype(np.float64))
        exact = wide if fn == "exp" else 1 / (1 + 1 / wide)
        rounded = exact.astype(np.float32)
    finite = np.isfinite(rounded)
    assert np.array_equal(got["y"][~finite], rounded[~finite], equal_nan=True)
    units = np.maximum(np.spacing(rounded[finite]), 2.0**-149)
    # A sigmoid below 2**-126 would need 1 / inf to be a number.
    regular = np.ones(finite.sum(), bool) if fn == "exp" else exact[finite] > 2.0**-126
    off = np.abs(got["y"][finite] - exact[finite]) / units
    assert off[regular].max() <= (3.5 if fn == "exp" else 5)
    assert (off[~regular] * units[~regular] <= 2.0**-126).all()


def literal_kernel(d: str, number: str) -> Module:
    """A number wherever one may stand beside a tile."""
    return kernel(
        f"(%x: {d}[N], %c: i1[N]) -> (%y: {d}[N], %z: {d}[N])",
        "N = 100",
        f"""parallel %i = 0 to N tile 64 {{
      %v = load %x[%i - 1 else {number}] : {d}[64]
      %c_1 = load %c[%i] : i1[64]
      %m = max %v, {number}
      %s = select %c_1, %m, {number}
      %p = add %s, {number}
      %q = mul %p, %v
      %at = cmp gt %v, {number}
      %t = select %at, %q, %v
      store %t, %y[%i]
      store {number}, %z[%i]
    }}""",
    )


@pytest.mark.parametrize("d", ["f64", "f32"])
@pytest.mark.parametrize("number", ["0.1", "1e-45", "1e-40", "0.5", "3e38", "-0.3"])
def test_numbers_have_all_the_digits_of_their_dtype(d: str, number: str) -> None:
    """Triton takes 0.1 for a float32, and 1e-45 for a float64."""
    got, want = run_both(literal_kernel(d, number))
    for name, expected in want.items():
        eps = np.finfo(expected.dtype).eps
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(got[name], expected, rtol=2 * eps, err_msg=name)


def test_weights_of_a_softmax_keep_the_short_exponential() -> None:
    """Where a maximum has been subtracted, also one carried from tile to tile."""
    op = parse("op @f(x: f32[64, 4096]) -> (y: f32[64, 4096]) {\n"
               "  m[i] = max[j](x[i, j])\n  e[i, j] = exp(x[i, j] - m[i])\n"
               "  y[i, j] = e[i, j] / sum[k](e[i, k])\n}").ops["f"]  # fmt: skip
    text = lowered(derived(op))
    assert "tl.exp(" in text and "exponential" not in text
    online = kernel(
        "(%x: f32[N, 64]) -> (%y: f32[N])",
        "N = 20",
        """parallel %i = 0 to N tile 4 {
      %low = full -inf : f32[4]
      %none = full 0.0 : f32[4]
      %m, %s = for %j = 0 to 64 tile 16 carry (%m_0 = %low, %s_0 = %none) {
        %v = load %x[%i, %j] : f32[4, 16]
        %top = reduce max %v dim 1
        %m_1 = max %m_0, %top
        %column = expand %m_1 dim 1
        %tops = broadcast %column : f32[4, 16]
        %below = sub %v, %tops
        %weights = exp %below
        %more = reduce sum %weights dim 1
        %step = sub %m_0, %m_1
        %scale = exp %step
        %before = mul %s_0, %scale
        %s_1 = add %before, %more
        yield %m_1, %s_1
      }
      store %s, %y[%i]
    }""",
    )
    text = lowered(online)
    assert text.count("tl.exp(") == 2 and "exponential" not in text
    assert_same(*run_both(online), ulps=8, terms=64)


def test_other_exponentials_are_long() -> None:
    """A difference from anything else may be large."""
    text = lowered(derived(parse("op @f(x: f32[64], z: f32[64]) -> (y: f32[64]) {\n"
                                 "  y[i] = exp(x[i] - max(z[i], 0.0))\n}").ops["f"]))  # fmt: skip
    assert "exponential(" in text and "tl.exp(" not in text


@pytest.mark.parametrize("d", FLOATS)
def test_binary(d: str) -> None:
    ops = ["add", "sub", "mul", "min", "max", "div", "pow"]
    body = (
        f"parallel %i = 0 to N tile 24 {{\n%v = load %x[%i] : {d}[24]\n"
        f"%z_1 = load %z[%i] : {d}[24]\n%u = add abs %z_1, 0.5\n"
    )
    for f in ops:
        a, b = ("%u", "%v") if f == "pow" else ("%v", "%u")
        body += f"%r_{f} = {f} {a}, {b}\nstore %r_{f}, %y_{f}[%i]\n"
    # Literals that the narrow formats do not hold exactly.
    body += "%l = mul %v, 0.1\nstore %l, %yl[%i]\n%m = sub 0.3, %v\nstore %m, %ym[%i]\n}"
    outputs = ", ".join(f"%y_{f}: {d}[N]" for f in ops) + f", %yl: {d}[N], %ym: {d}[N]"
    assert_same(*run_both(kernel(f"(%x: {d}[N], %z: {d}[N]) -> ({outputs})", "N = 70", body)),
                ulps=2)  # fmt: skip


@pytest.mark.parametrize("d", INTS)
def test_integers(d: str) -> None:
    ops = ["add", "sub", "mul", "min", "max", "floordiv", "mod", "and", "or", "xor", "shl", "shr"]
    shift, low = ("add", 0) if d == "u8" else ("sub", 5)
    body = (
        f"parallel %i = 0 to N tile 32 {{\n%x_1 = load %x[%i] : {d}[32]\n"
        f"%w = load %z[%i] : {d}[32]\n%v = {shift} %x_1, 2\n%m = and %w, 3\n"
        f"%u = sub %m, {low}\n%odd = or %u, 1\n"
    )
    for f in ops:
        b = {"floordiv": "%odd", "mod": "%odd", "shl": "%m", "shr": "%m"}.get(f, "%u")
        body += f"%r_{f} = {f} %v, {b}\nstore %r_{f}, %y_{f}[%i]\n"
    body += "%q = not %v\nstore %q, %yq[%i]\n%c = cmp lt %v, %u\nstore %c, %yc[%i]\n"
    body += "%s = select %c, %v, 7\nstore %s, %ys[%i]\n}"
    outputs = ", ".join(f"%y_{f}: {d}[N]" for f in ops)
    module = kernel(
        f"(%x: {d}[N], %z: {d}[N]) -> ({outputs}, %yq: {d}[N], %yc: i1[N], %ys: {d}[N])",
        "N = 70", body,
    )  # fmt: skip
    assert_same(*run_both(module))


@pytest.mark.parametrize("d", [*FLOATS, *INTS, "i1"])
def test_casts(d: str) -> None:
    targets = [*FLOATS, *INTS, "i1"]
    body = f"parallel %i = 0 to N tile 32 {{\n%v = load %x[%i] : {d}[32]\n"
    for e in targets:
        body += f"%c_{e} = cast %v : {e}\nstore %c_{e}, %y_{e}[%i]\n"
    outputs = ", ".join(f"%y_{e}: {e}[N]" for e in targets)
    assert_same(*run_both(kernel(f"(%x: {d}[N]) -> ({outputs})", "N = 70", body + "}")))


@pytest.mark.parametrize("d", ["f8e4m3", "f8e5m2", "bf16"])
def test_every_rounding_to_a_narrow_format(d: str) -> None:
    """All values of the format, the points half way between them, what lies beyond, infinities."""
    from ke_ir.types import DTYPES

    narrow = DTYPES[d].numpy()
    bits = np.arange(1 << (8 * narrow.itemsize), dtype=f"uint{8 * narrow.itemsize}")
    with np.errstate(invalid="ignore", over="ignore"):
        values = np.unique(bits.view(narrow).astype(np.float32))
        values = values[np.isfinite(values)]
        middle = (values[1:].astype(np.float64) + values[:-1]) / 2
        near = [np.nextafter(middle.astype(np.float32), np.float32(s * np.inf)) for s in (-1, 1)]
        top = values[-1] * np.array([1.01, 1.03, 1.05, 1.2, 2.0], np.float64)
        x = np.concatenate([values, middle, *near, top, -top, [np.inf, -np.inf]])
        x = x.astype(np.float32)
    body = (
        "parallel %i = 0 to N tile 4096 {\n%v = load %x[%i] : f32[4096]\n"
        f"%c = cast %v : {d}\nstore %c, %y[%i]\n}}"
    )
    module = kernel(f"(%x: f32[N]) -> (%y: {d}[N])", "N in 1..1000000 = 8", body)
    got, want = run_both(module, {"N": len(x)}, inputs=lambda sizes, rng: {"x": x})
    assert_same(got, want)


@pytest.mark.parametrize("d", ["f32", "f16", "bf16", "i32", "i8", "u8"])
@pytest.mark.parametrize("shape", [(8, 16), (6, 24)])
def test_reductions_and_scans(d: str, shape: tuple[int, int]) -> None:
    a, b = shape
    body = f"parallel %i = 0 to 1 {{ for %a = 0 to {a} tile {a} {{ for %b = 0 to {b} tile {b} {{\n"
    body += f"%v = load %x[%a, %b] : {d}[{a}, {b}]\n"
    outputs = []
    for k in ("sum", "prod", "max", "min", "argmax", "argmin"):
        for dim, (index, size) in enumerate((("%b", b), ("%a", a))):
            t = "i32" if k.startswith("arg") else d
            body += (
                f"%r_{k}{dim} = reduce {k} %v dim {dim}\nstore %r_{k}{dim}, %y_{k}{dim}[{index}]\n"
            )
            outputs.append(f"%y_{k}{dim}: {t}[{size}]")
    for k in ("sum", "max"):
        for way in ("", "reverse"):
            body += (
                f"%s_{k}{way} = scan {k} %v dim 1 {way}\nstore %s_{k}{way}, %z_{k}{way}[%a, %b]\n"
            )
            outputs.append(f"%z_{k}{way}: {d}[{a}, {b}]")
    body += f"%c = cmp gt %v, {'1' if d[0] in 'iu' else '1.0'}\n"
    for k in ("any", "all"):
        body += f"%q_{k} = reduce {k} %c dim 1\nstore %q_{k}, %w_{k}[%a]\n"
        outputs.append(f"%w_{k}: i1[{a}]")
    module = kernel(f"(%x: {d}[{a}, {b}]) -> ({', '.join(outputs)})", "", body + "}}}")
    assert_same(*run_both(module), ulps=2, terms=b)


DOTS = [
    ("f16", "ieee"), ("bf16", "ieee"), ("f8e4m3", "ieee"), ("f8e5m2", "ieee"), ("f64", "ieee"),
    ("i8", "ieee"), ("u8", "ieee"), ("f32", "ieee"), ("f32", "tf32"), ("f32", "tf32x3"),
    ("f32", "bf16x3"), ("f32", "bf16x6"),
]  # fmt: skip


def dot_kernel(d: str, precision: str, m: int, n: int, k: int) -> Any:
    """A matrix product of tiles [m, k] x [k, n] with remainders on every side."""
    out = "i32" if d[0] in "iu" else "f64" if d == "f64" else "f32"
    zero = "0" if out == "i32" else "0.0"
    tail = f" precision {precision}" if precision != "ieee" else ""
    return kernel(
        f"(%x: {d}[M, K], %w: {d}[K, N]) -> (%y: {out}[M, N])", "M = 40, N = 50, K = 70",
        f"parallel %i = 0 to M tile {m}, %j = 0 to N tile {n} {{\n"
        f"%z = full {zero} : {out}[{m}, {n}]\n"
        f"%r = for %k = 0 to K tile {k} stages 2 carry (%acc = %z) {{\n"
        f"%a = load %x[%i, %k] : {d}[{m}, {k}]\n%b = load %w[%k, %j] : {d}[{k}, {n}]\n"
        f"%t = dot %a, %b, %acc{tail}\nyield %t\n}}\nstore %r, %y[%i, %j]\n}}",
    )  # fmt: skip


@pytest.mark.parametrize(("d", "precision"), DOTS)
@pytest.mark.parametrize("tile", [(32, 16, 64), (24, 48, 40), (16, 16, 8)])
def test_dot(d: str, precision: str, tile: tuple[int, int, int]) -> None:
    small = tile[2] < 16 and precision != "ieee"  # such a product is computed in full precision
    ulps = {"tf32": 2.0**13, "bf16x3": 2.0**7}.get(precision, 4) if small else 1
    assert_same(*run_both(dot_kernel(d, precision, *tile)), ulps=ulps, terms=8)


def test_batched_dot() -> None:
    loops = "".join(
        f"for %{n} = 0 to {s} tile {s} {{ "
        for n, s in (("b", 4), ("h", 2), ("m", 16), ("n", 32), ("k", 16))
    )
    module = kernel(
        "(%x: f16[4, 2, 16, 16], %w: f16[4, 2, 16, 32]) -> (%y: f32[4, 2, 16, 32])", "",
        f"parallel %i = 0 to 1 {{ {loops}\n%a = load %x[%b, %h, %m, %k] : f16[4, 2, 16, 16]\n"
        "%c = load %w[%b, %h, %k, %n] : f16[4, 2, 16, 32]\n%t = dot %a, %c\n"
        "store %t, %y[%b, %h, %m, %n]\n}}}}}}",
    )  # fmt: skip
    assert_same(*run_both(module), ulps=4)
