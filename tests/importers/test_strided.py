"""Places in storage, segments, histograms and images whose sizes shrink."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ke_ir.importers.torch_export import ImportFailure, import_module
from tests.importers.agree import check

X = torch.arange(24.0).reshape(4, 6)


@pytest.mark.parametrize("x", [X, X.t(), X.reshape(2, 3, 4).permute(2, 0, 1), X.reshape(24)])
def test_strides_read_the_storage_however_it_is_filled(x: Tensor) -> None:
    check(lambda v: v.as_strided((3, 2), (7, 2), 1), (x,), derived=True)
    check(lambda v: v.as_strided((2, 2), (0, 1), 5), (x,))
    check(lambda v: torch.as_strided_copy(v, (5,), (3,), 2), (x,))


def test_strides_of_a_result_and_of_a_view() -> None:
    check(lambda v: (v * 2).as_strided((3,), (5,), 2), (X,))
    check(lambda v: v.t().as_strided((3,), (5,), 2), (X,))


@pytest.mark.parametrize("size, stride, offset", [
    ((2, 3), (1, 6), 3), ((4,), (5,), 1), ((), (), 4), ((1, 3), (100, 2), 0),
])  # fmt: skip
def test_writes_by_strides(size: Any, stride: Any, offset: int) -> None:
    source = -torch.rand(size) - 1
    for x in (X, X.t()):
        check(lambda v, s: torch.as_strided_scatter(v, s, size, stride, offset), (x, source))


REFUSED = {
    "beyond the tensor's storage": lambda v: torch.as_strided_copy(v.clone(), (5,), (6,), 0),
    "overlap": lambda v: torch.as_strided_scatter(v, torch.ones(3, 3), (3, 3), (1, 1), 0),
    "does not fill its storage": lambda v: v.expand(2, 4, 6).as_strided((3,), (1,), 0),
    "a part of a storage": lambda v: v[1:3].as_strided((3,), (1,), 0),
}


@pytest.mark.parametrize("why", REFUSED)
def test_places_that_an_op_cannot_say(why: str) -> None:
    with pytest.raises(ImportFailure, match=why):
        import_module(REFUSED[why], (X,), "f")


def test_a_resize_reads_the_first_places() -> None:
    check(lambda v: v.clone().resize_(3, 8), (X,))
    check(lambda v: v.clone().resize_(2, 5), (X,))


@pytest.mark.parametrize("how", ["sum", "mean", "prod", "max", "min"])
@pytest.mark.parametrize("initial", [None, 2.0])
def test_segments_some_of_them_empty(how: str, initial: float | None) -> None:
    lengths = torch.tensor([2, 0, 3, 1])
    offsets = torch.tensor([0, 2, 2, 5, 6])
    x = X.t().contiguous()

    def by_lengths(v: Tensor, n: Tensor) -> Tensor:
        return torch.segment_reduce(v, how, lengths=n, initial=initial)

    def by_offsets(v: Tensor, n: Tensor) -> Tensor:
        return torch.segment_reduce(v, how, offsets=n, initial=initial)

    # The mean of a segment without elements is NaN, which the derived kernel's check takes for a
    # fault.
    check(by_lengths, (x, lengths), derived=how != "mean" or initial is not None)
    check(by_offsets, (x, offsets))


@pytest.mark.parametrize("density", [False, True])
def test_histograms_whose_last_edge_belongs_to_the_last_bin(density: bool) -> None:
    x = torch.tensor([1.0, 2, 2, 5, 4, 3])
    weight = torch.rand(6)
    check(lambda v: torch.histogram(v, 4, density=density), (x,), derived=True)
    check(
        lambda v, w: torch.histogram(v, 3, range=(2.0, 4.0), weight=w, density=density), (x, weight)
    )
    edges = torch.tensor([0.0, 2, 2.5, 5])
    check(lambda v, e: torch.histogram(v, e, density=density), (x, edges))
    points = torch.rand(7, 2)
    check(lambda v: torch.histogramdd(v, [2, 3], density=density), (points,))


def test_a_histogram_of_equal_elements() -> None:
    check(lambda v: torch.histogram(v, 2), (torch.full((4,), 3.0),))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("given", [
    {"size": (3, 4)}, {"size": (13, 5)}, {"scale_factor": (0.6, 1.7)},
    {"size": (3, 4), "align_corners": True}, {"size": (1, 1), "align_corners": True},
])  # fmt: skip
def test_smaller_images_are_means(mode: str, given: dict[str, Any]) -> None:
    def f(v: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(v, mode=mode, antialias=True, **given)

    check(f, (torch.randn(2, 3, 7, 9),))


def test_logsumexp_of_infinities_and_of_integers() -> None:
    low, high = -torch.inf, torch.inf
    x = torch.tensor([[low, low], [low, 1.0], [high, 2.0], [torch.nan, low]])
    check(lambda v: torch.logsumexp(v, 1), (x,))
    check(lambda v: torch.logsumexp(v, 0, keepdim=True), (x.t(),))
    check(lambda v: torch.logsumexp(v.long(), 1).double(), (torch.tensor([[-(2.0**62), 2.0**62]]),))
