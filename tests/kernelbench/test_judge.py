"""What counts as equal, and what as near enough."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from search.kernelbench import judge  # noqa: E402


def test_float64_evaluations() -> None:
    want = torch.randn(50, 40, dtype=torch.float64) * 1e3
    assert judge.same({"y": (want * (1 + 1e-12)).numpy()}, {"y": want})[0]
    for wrong in (want * (1 + 1e-7), want.float(), want.index_fill(0, torch.tensor([3]), 0.0)):
        good, text = judge.same({"y": wrong.numpy()}, {"y": want})
        assert not good and text.startswith("y: ") and "instead of" in text
    lost = want.clone()
    lost[4, 5] = torch.nan
    assert judge.same({"y": lost.numpy()}, {"y": want}) == (
        False, f"y: nan instead of {float(want[4, 5])!r} at [4, 5]"
    )  # fmt: skip
    assert not judge.same({"y": want[:1].numpy()}, {"y": want})[0]
    assert not judge.same({"y": np.zeros((50, 40))}, {"y": want})[0]


def test_views_and_integers() -> None:
    x = np.arange(12).reshape(3, 4)[::-1, ::-1]
    assert judge.same({"y": x}, {"y": torch.tensor(x.copy())})[0]
    assert not judge.same({"y": x}, {"y": torch.tensor(x + 1)})[0]
    assert judge.same({"y": np.array([np.inf, np.nan])}, {"y": torch.tensor([np.inf, np.nan])})[0]


def test_what_is_left_when_terms_cancel() -> None:
    """Noise of float64 passes where float32 has noise too, and nothing else does."""
    own = {"y": torch.tensor([3e-9, -2e-9])}
    exact = {"y": torch.tensor([3e-17, -5e-17], dtype=torch.float64)}
    slack = judge.rounding(own, exact)
    assert 1e-17 < slack["y"] < 1e-14
    other = exact["y"] - 8e-17
    assert not judge.same({"y": other}, exact)[0] and judge.same({"y": other}, exact, slack)[0]
    assert not judge.same({"y": exact["y"] + 1e-12}, exact, slack)[0]
    assert judge.rounding({"y": exact["y"]}, exact)["y"] == 0.0


def test_numbers_of_a_target() -> None:
    want = {"y": torch.randn(64, 64, dtype=torch.float64)}
    own = {"y": want["y"].float()}
    good, text = judge.verdict(judge.compared(own, want, own))
    assert good and "relative error" in text
    for wrong in (own["y"] + 1e-3, own["y"] * 1.01, torch.full((64, 64), torch.nan)):
        good, text = judge.verdict(judge.compared({"y": wrong}, want, own))
        assert not good and "beyond the benchmark's tolerance" in text
    with pytest.raises(ValueError, match="shape"):
        judge.compared({"y": own["y"][:3]}, want, own)


def test_pytorch_beyond_the_tolerance_is_said() -> None:
    want = {"y": torch.tensor([1e-6, 1e6], dtype=torch.float64)}
    own, mine = {"y": torch.tensor([0.25, 1e6])}, {"y": torch.tensor([0.5, 1e6])}
    good, text = judge.verdict(judge.compared(mine, want, own))
    assert not good and "(eager beyond it too, " in text
    good, text = judge.verdict(judge.compared({"y": want["y"].float()}, want, own))
    assert good and "beyond" not in text
