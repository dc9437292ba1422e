"""Targets are found by entry point, wherever they are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ke_ir.parser import parse
from targets.base import TargetError, UnknownArch
from targets.registry import (
    BrokenTarget,
    UnknownTarget,
    find_target,
    knobs_for,
    target_names,
)

KERNEL = """
kernel @k(%x: f32[B]) -> (%y: f32[B]) dims B = 8 {{
  parallel %b = 0 to B tile 8 {{
    %v = load %x[%b] : f32[8]
    store %v, %y[%b]
  }}
}}
{tuned}
"""


def test_our_own_targets_are_installed() -> None:
    assert {"amd", "kea", "nvidia"} <= set(target_names())


@pytest.mark.parametrize(
    ("name", "arch"), [("amd", "gfx942"), ("nvidia", "sm_90"), ("kea", "kea2")]
)
def test_the_first_architecture_is_the_default(name: str, arch: str) -> None:
    assert find_target(name).arch == arch
    assert find_target(f"{name}.{arch}").arch == arch
    assert find_target(name, arch).arch == arch


def test_unknown_target_names_the_near_miss() -> None:
    with pytest.raises(UnknownTarget) as caught:
        find_target("nvida")
    assert "did you mean `nvidia`?" in caught.value.fix
    assert "amd" in caught.value.fix


def test_unknown_arch_names_the_near_miss() -> None:
    with pytest.raises(UnknownArch) as caught:
        find_target("amd.gfx943")
    assert "did you mean `gfx942`?" in caught.value.fix


def test_two_architectures_that_disagree() -> None:
    with pytest.raises(UnknownArch, match="disagree"):
        find_target("amd.gfx942", "gfx950")


@pytest.mark.usefixtures("third_party")
def test_a_target_in_another_package() -> None:
    assert find_target("fake").arch == "good"
    assert find_target("fake.crash").spec.name == "Fake crash"


@pytest.mark.usefixtures("third_party")
def test_a_target_whose_package_is_broken() -> None:
    assert "broken" in target_names()
    with pytest.raises(BrokenTarget, match="no_such_module") as caught:
        find_target("broken")
    assert "fake-target" in caught.value.fix


def test_looking_up_one_target_imports_that_one_only(tmp_path: Path) -> None:
    program = (
        "import sys; from targets.registry import find_target; find_target('amd');"
        "print([m for m in sys.modules if m.split('.')[0] in"
        " ('torch', 'triton', 'mlir', 'numpy') or m.startswith(('targets.nvidia', 'targets.kea'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"


def _knobs(tuned: str, name: str = "fake") -> dict[str, object]:
    module = parse(KERNEL.format(tuned=tuned))
    return dict(knobs_for(find_target(name), module, module.programs["k"]))


@pytest.mark.usefixtures("third_party")
def test_knobs_are_defaults_unless_tuned() -> None:
    assert _knobs("") == {"speed": 1}
    assert _knobs("tuned @k for fake.good { speed = 4 }") == {"speed": 4}
    assert _knobs("tuned @k for fake.wrong { speed = 4 }") == {"speed": 1}
    assert _knobs("tuned @k for amd.gfx942 { speed = 4 }") == {"speed": 1}


@pytest.mark.usefixtures("third_party")
def test_tuned_blocks_are_checked_against_the_space() -> None:
    with pytest.raises(TargetError, match="unknown knob `sped`") as caught:
        _knobs("tuned @k for fake.good { sped = 4 }")
    assert "did you mean `speed`?" in caught.value.fix
    with pytest.raises(TargetError, match="outside its space") as caught:
        _knobs("tuned @k for fake.good { speed = 3 }")
    assert "1, 2, 4" in caught.value.fix
