"""Factors of matrices and what is solved with them, beside PyTorch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.aten.check import PASSED
from bench.aten.check import check as checked
from bench.aten.samples import Called, Gradient
from tests.importers.agree import check

torch.manual_seed(0)
A = torch.randn(2, 4, 4, dtype=torch.float64)
B = torch.randn(2, 4, 3, dtype=torch.float64)
POSITIVE = A @ A.mT + torch.eye(4)


@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 5), (5, 3)])
def test_rows_change_places_as_in_lapack(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    check(torch.linalg.lu_factor_ex, (x,), derived=True)
    check(torch.linalg.lu, (x,))


def test_of_equal_pivots_the_first_is_taken() -> None:
    x = torch.tensor([[1.0, 2, 3], [-2, 1, 4], [2, 5, 6]])
    check(torch.linalg.lu_factor_ex, (x,))


def test_a_singular_matrix_says_which_pivot_is_zero() -> None:
    x = torch.tensor([[1.0, 2, 3], [2, 4, 1], [0, 0, 5]])
    check(torch.linalg.lu_factor_ex, (x,))
    check(lambda m: (torch.linalg.det(m), *torch.linalg.slogdet(m)), (x,))
    check(lambda m: torch.linalg.inv_ex(m)[1], (x,))


@pytest.mark.parametrize("transposed", [False, True])
def test_determinants_by_any_layout(transposed: bool) -> None:
    """PyTorch factors the transpose of a matrix whose rows lie in order."""
    x = A.mT if transposed else A
    check(torch.linalg.det, (x,), derived=True)
    check(torch.linalg.slogdet, (x,))
    for f in (torch.linalg.det, torch.logdet):
        done = checked(Gradient(Called(f, ((x @ x.mT if f is torch.logdet else x,), {}))))
        assert done.outcome == PASSED, done.reason


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("adjoint", [False, True])
def test_factors_that_are_given(left: bool, adjoint: bool) -> None:
    factors, pivots = torch.linalg.lu_factor(A)
    b = B[0] if left else B[0].mT

    def f(lu: Tensor, p: Tensor, y: Tensor) -> Tensor:
        return torch.linalg.lu_solve(lu, p, y, left=left, adjoint=adjoint)

    check(f, (factors, pivots, b))
    check(torch.lu_unpack, (factors, pivots))


def test_vectors_and_broadcast_systems() -> None:
    check(torch.linalg.solve, (A, B), derived=True)
    check(torch.linalg.solve, (A, B[..., 0]))
    check(torch.linalg.solve, (A[0], B))
    check(torch.linalg.solve, (A, B[0]))
    check(lambda a, b: torch.linalg.solve(a, b, left=False), (A, B.mT))
    check(torch.linalg.inv, (A,))


@pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated")
@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("unit", [False, True])
def test_triangles_are_read_and_nothing_else(upper: bool, left: bool, unit: bool) -> None:
    b = B if left else B.mT

    def f(a: Tensor, y: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(a, y, upper=upper, left=left, unitriangular=unit)

    check(f, (A, b))
    check(lambda y, a: torch.triangular_solve(y, a, upper, left, unit), (B, A))


@pytest.mark.parametrize("upper", [False, True])
def test_positive_definite_matrices(upper: bool) -> None:
    factor = torch.linalg.cholesky(POSITIVE, upper=upper)
    # Only one triangle of the matrix is read.
    one = POSITIVE.triu() if upper else POSITIVE.tril()
    check(lambda a: torch.linalg.cholesky_ex(a, upper=upper), (one,), derived=True)
    check(lambda a: torch.cholesky_inverse(a, upper=upper), (factor,))
    check(lambda b, a: torch.cholesky_solve(b, a, upper=upper), (B, factor))


def test_what_is_not_positive_is_said() -> None:
    x = POSITIVE.clone()
    x[1, 2, 2] = -1
    check(lambda a: torch.linalg.cholesky_ex(a)[1], (x,))


@pytest.mark.parametrize("f", [torch.linalg.inv, torch.linalg.cholesky, torch.linalg.lu])
def test_gradients(f: Any) -> None:
    done = checked(Gradient(Called(f, ((POSITIVE,), {}))))
    assert done.outcome == PASSED, done.reason


@pytest.mark.parametrize("shape", [(4, 4), (2, 5, 3), (3, 5), (1, 1)])
def test_reflections_as_in_lapack(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    x[..., 1:, 0] = 0  # a column that is there already: no reflection
    check(torch.geqrf, (x,), derived=True)
    for mode in ("reduced", "complete", "r"):
        check(lambda m, mode=mode: [v for v in torch.linalg.qr(m, mode) if v.numel()], (x,))
    if shape[-2] >= shape[-1]:
        check(torch.linalg.householder_product, torch.geqrf(x))


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("transpose", [False, True])
def test_reflections_of_another_matrix(left: bool, transpose: bool) -> None:
    x, factors = torch.geqrf(A)
    c = B if left else B.mT
    check(lambda m, t, y: torch.ormqr(m, t, y, left, transpose), (x, factors, c))


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 30.0, 300.0])
def test_exponentials_of_matrices(size: float) -> None:
    antisymmetric = A - A.mT  # whose exponential is a rotation, however large it is
    check(torch.linalg.matrix_exp, (size * antisymmetric,))
    if size <= 30:
        check(torch.linalg.matrix_exp, (size * A,), derived=size == 1)
