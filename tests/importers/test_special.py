"""Special functions over wide arguments, beside PyTorch's, or mpmath where PyTorch's are wrong."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from ke_ir.evaluate import evaluate_op
from ke_ir.importers.aten.polynomials import CHEBYSHEV, FAMILIES
from ke_ir.importers.torch_export import import_module
from tests.importers.agree import check

F64 = torch.float64
ENDS = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-310, -1e-310], dtype=F64)
SIZES = torch.logspace(-8, 4, 121, dtype=F64)
WIDE = torch.cat([torch.linspace(-40, 40, 1601, dtype=F64), SIZES, -SIZES, ENDS])
SMALL = torch.logspace(-15, -1, 60, dtype=F64)
UNIT = torch.cat([torch.linspace(-1.5, 1.5, 601, dtype=F64), SMALL**20, 1 - SMALL, ENDS])


def elements(f: Any, *xs: torch.Tensor) -> Any:
    """What an imported function of float64 means."""
    imported = import_module(f, xs, "f")
    given = {a.name: xs[a.position].numpy() for a in imported.arguments}
    (out,) = evaluate_op(imported.op, None, given).values()
    return out


def near(got: Any, want: Any, within: float = 1e-12) -> None:
    np.testing.assert_allclose(got, want, rtol=within, atol=within)


@pytest.mark.parametrize("name", [
    "i0", "i1", "i0e", "i1e", "modified_bessel_i0", "modified_bessel_i1", "modified_bessel_k0",
    "modified_bessel_k1", "scaled_modified_bessel_k0", "scaled_modified_bessel_k1",
    "spherical_bessel_j0", "erfcx", "log_ndtr",
])  # fmt: skip
def test_what_pytorch_computes_over_the_line(name: str) -> None:
    f = getattr(torch.special, name)
    points = WIDE if name != "i0" else WIDE[WIDE.abs() < 700]  # PyTorch's are NaN at infinity
    near(elements(lambda x: f(x), points), f(points).numpy())


@pytest.mark.parametrize("name", ["erfinv", "ndtri"])
def test_quantiles_and_their_ends(name: str) -> None:
    f = getattr(torch.special, name)
    near(elements(lambda x: f(x), UNIT), f(UNIT).numpy())


MP = {
    "bessel_j0": lambda x: mpmath.besselj(0, x), "bessel_j1": lambda x: mpmath.besselj(1, x),
    "bessel_y0": lambda x: mpmath.bessely(0, x), "bessel_y1": lambda x: mpmath.bessely(1, x),
    "airy_ai": mpmath.airyai,
}  # fmt: skip


@pytest.mark.parametrize("name", MP)
def test_oscillating_functions_are_the_functions(name: str) -> None:
    """PyTorch's own are wrong by up to 3e-6 from 5 to 12, and left of -2.09 for ``airy_ai``."""
    f = getattr(torch.special, name)
    points = torch.cat([torch.linspace(1e-3, 30, 101, dtype=F64), SIZES[::10]])
    if "_y" not in name:
        points = torch.cat([points, -torch.linspace(0, 30, 101, dtype=F64)])
    points = points[points < 5000]
    want = [float(MP[name](mpmath.mpf(float(x)))) for x in points]
    near(elements(lambda x: f(x), points), want)


@pytest.mark.parametrize("name", MP)
def test_oscillating_functions_end_as_in_pytorch(name: str) -> None:
    f = getattr(torch.special, name)
    ends = torch.cat([ENDS[:5], torch.tensor([-1.0, 2.0, 200.0], dtype=F64)])
    near(elements(lambda x: f(x), ends), f(ends).numpy())


def test_zeta_at_poles_and_left_of_them() -> None:
    s = torch.tensor([[1.0], [0.5], [1.5], [2.0], [3.0], [40.0], [300.0], [math.nan]], dtype=F64)
    q = torch.tensor([-30.25, -3.0, -0.5, 0.0, 1e-3, 1.0, 7.5, 1e6, math.nan], dtype=F64)
    near(elements(torch.special.zeta, s, q), torch.special.zeta(s, q).numpy())


@pytest.mark.parametrize("n", [0, 2, 3, 4, 7])
def test_polygamma_of_any_order(n: int) -> None:
    x = torch.tensor([-7.75, -2.5, -0.25, 1e-3, 0.5, 1.0, 3.25, 40.0, 1e5], dtype=F64)
    near(elements(lambda v: torch.polygamma(n, v), x), torch.polygamma(n, x).numpy(), 1e-11)


def test_trigamma_is_nearer_than_pytorch() -> None:
    """PyTorch's stops its series after three terms."""
    x = torch.tensor([-1.5, 0.5, 1.0, 2.5, 30.0], dtype=F64)
    want = [float(mpmath.psi(1, mpmath.mpf(float(v)))) for v in x]
    near(elements(lambda v: torch.polygamma(1, v), x), want)


NAMES = [*FAMILIES, *(f"shifted_chebyshev_polynomial_{kind}" for kind in CHEBYSHEV)]


@pytest.mark.parametrize("name", NAMES)
def test_polynomials_of_degrees_that_are_tensors(name: str) -> None:
    f = getattr(torch.special, name)
    x = torch.tensor([[-3.5], [-1.0], [-0.3], [0.0], [0.5], [1.0], [1.75]], dtype=F64)
    n = torch.tensor([-2.0, 0.0, 1.0, 2.9, 5.0, 12.0, 25.0], dtype=F64)
    near(elements(f, x, n), f(x, n).numpy(), 1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_polynomials_of_one_degree(name: str) -> None:
    f = getattr(torch.special, name)
    x = torch.linspace(-2, 2, 9, dtype=F64)
    for n in (-1, 0, 1, 7):
        near(elements(lambda v, n=n: f(v, n), x), f(x, n).numpy(), 1e-10)
    near(elements(lambda v: f(0.3, v), x), f(0.3, x).numpy(), 1e-10)


def test_a_degree_beyond_the_last_step_has_no_value() -> None:
    x, n = torch.tensor([0.5, 0.5]), torch.tensor([128.0, 129.0])
    got = elements(torch.special.legendre_polynomial_p, x, n)
    assert np.isfinite(got[0])
    assert np.isnan(got[1])


def test_divisors_of_the_slowest_pairs_and_of_zero() -> None:
    """Neighbours among Fibonacci's numbers take Euclid's algorithm longest."""
    f = [1, 1]
    while f[-1] + f[-2] < 2**63:
        f.append(f[-1] + f[-2])
    a = torch.tensor([f[-2], f[-1], 0, 0, 2**62, -12, 7, -5])
    b = torch.tensor([f[-1], f[-2], 0, 5, 3**39, 18, -7, 0])
    check(torch.gcd, (a, b))
    check(torch.lcm, (a[2:], b[2:] % 1000))
    small = (
        torch.tensor([89, 0, 127], dtype=torch.int8),
        torch.tensor([55, -12, 1], dtype=torch.int8),
    )
    check(torch.gcd, small, derived=True)


def test_frexp_of_powers_of_two_and_their_neighbours() -> None:
    powers = 2.0 ** torch.arange(-1073, 1024, dtype=F64)
    below = torch.nextafter(powers, torch.zeros((), dtype=F64))
    check(torch.frexp, (torch.cat([powers, -below, ENDS]),))


@pytest.mark.parametrize("f", [torch.remainder, torch.fmod])
def test_remainders_are_exact(f: Any) -> None:
    """Also where the quotient rounds to a whole number, and for infinite and huge operands."""
    torch.manual_seed(0)
    x = torch.tensor([5.1, -5.1, 5.1, -5.1, 6, -6, 6, 0, 5, -5, 5, -5, math.inf, 1, 0.3, 1e9, 1e15,
                      -1e-20, 1e300], dtype=F64)  # fmt: skip
    y = torch.tensor([0.1, 0.1, -0.1, -0.1, 3, 3, -3, 2, math.inf, math.inf, -math.inf, -math.inf,
                      2, 0, math.nan, 0.7, 0.3, 1, -1e299], dtype=F64)  # fmt: skip
    size = 10.0 ** torch.randint(-3, 6, (2000,))
    x = torch.cat([x, torch.randn(2000, dtype=F64) * size])
    y = torch.cat([y, torch.randn(2000, dtype=F64)])
    np.testing.assert_array_equal(elements(f, x, y), f(x, y).numpy())


def test_remainders_of_float32_lose_nothing_in_float32() -> None:
    """Every step of the division, rounded to float32, is what it is without rounding."""
    torch.manual_seed(0)
    x = torch.randn(4000) * 10.0 ** torch.randint(-2, 6, (4000,))
    y = torch.randn(4000)
    near(_in_float32(torch.fmod, x, y), torch.fmod(x, y).numpy(), 0.0)


def _in_float32(f: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    imported = import_module(f, (x, y), "f")
    values = {a.name: v.numpy() for a, v in zip(imported.arguments, (x, y), strict=True)}
    for e in imported.op.equations:
        values[e.target] = _float32(e.rhs, values)
    return values[imported.op.outputs[0].name]


def _float32(e: Any, values: dict[str, Any]) -> Any:
    from ke_ir.evaluate_functions import BINARY, unary
    from ke_ir.expr import Bin, Call, Num, Ref

    with np.errstate(all="ignore"):
        match e:
            case Num(v):
                return np.float32(v)
            case Ref(name):
                return values[name]
            case Bin(op, a, b):
                return BINARY[op](_float32(a, values), _float32(b, values))
            case Call("select", (c, a, b)):
                return np.where(*(_float32(v, values) for v in (c, a, b)))
            case Call(fn, (a,)):
                return unary(fn, _float32(a, values)).astype(np.float32)
    raise TypeError(e)
