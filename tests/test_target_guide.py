"""The guide to writing a target is true: its code stands in the example, and the example works."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from ke_ir.interpret import interpret_kernel, interpret_program
from ke_ir.ir import Module, Program
from ke_ir.numerics import round_to
from ke_ir.parser import parse
from ke_ir.printer import print_module
from ke_ir.types import DTYPES
from ke_ir.verify import check
from targets.base import CompileFailed, IllegalProgram, Kind, Presence, RunResult, ToolchainMissing
from targets.registry import clear_cache, find_target, knobs_for
from tests.ir.executable_strategies import executable_kernels
from tests.ir.executable_values import ExecutableKernel
from tests.kea.kea_kernels import KERNELS
from tests.kea.kea_support import agree, draw

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "examples" / "targets" / "c99"
GUIDE = (ROOT / "docs" / "writing-a-target.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
PROGRAM = """
kernel @scale(%x: f32[M, N], %w: f32[N]) -> (%y: f32[M, N]) dims M = 3, N = 5 {
  parallel %m = 0 to M tile 2, %n = 0 to N tile 4 {
    %v = load %x[%m, %n] : f32[2, 4]
    %s = load %w[%n] : f32[4]
    store mul %v, expand %s dim 0, %y[%m, %n]
  }
}
kernel @next(%x: f32[N]) -> (%y: f32[N]) dims N = 5 {
  parallel %n = 0 to N tile 4 {
    %v = load %x[%n] : f32[4]
    store add %v, 1.0, %y[%n]
  }
}
program @steps(%x: f32[M, N], %w: f32[N]) -> (%h: f32[T, M, N]) dims M in 1..9 = 3, N = 5, T = 4 {
  temp %u : f32[N]
  once { call @next(%w) -> (%u) }
  call @scale(%x, %u) -> (%h[0])
  repeat %t = 1 to T { call @scale(%h[%t - 1], %u) -> (%h[%t]) }
}
"""
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example as pip installs it: its modules and entry points in a folder on the path."""
    site = tmp_path_factory.mktemp("site")
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copytree(PACKAGE / "ke_gen_c99", site / "ke_gen_c99")
    info = site / f"ke_gen_c99-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [f"[{g}]\n" + "".join(f"{k} = {v}\n" for k, v in e.items())
             for g, e in project["entry-points"].items()]  # fmt: skip
    (info / "entry_points.txt").write_text("".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        inherited = os.environ.get("PYTHONPATH", "")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), inherited])))
        patch.delenv("CC", raising=False)
        clear_cache()
        yield site
    for name in [n for n in sys.modules if n.partition(".")[0] == "ke_gen_c99"]:
        del sys.modules[name]
    clear_cache()


def ke_gen(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ke_gen", *args], capture_output=True, text=True, timeout=120,
        env={**os.environ, **env},
    )  # fmt: skip


def c99() -> Any:
    return find_target("c99")


def run(module: Module, program: Program, dims: Any, inputs: Any) -> RunResult:
    target = c99()
    knobs = knobs_for(target, module, program)
    result: RunResult = target.run(module, program, knobs, dims, inputs)
    return result


def test_every_excerpt_of_the_guide_stands_in_the_example() -> None:
    sources = {
        "python": "\n".join(p.read_text() for p in sorted(PACKAGE.rglob("*.py"))),
        "toml": (PACKAGE / "pyproject.toml").read_text(),
    }
    checked = [(kind, text) for kind, text in FENCED if kind in sources]
    assert len(checked) > 15
    for kind, text in checked:
        assert text in sources[kind], f"not in {PACKAGE.name}:\n{text}"
    assert {kind for kind, _ in FENCED} <= {*sources, "console"}


def test_names_that_the_guide_mentions_exist() -> None:
    for name in re.findall(r"`((?:ke_ir|lowering|targets|search)\.[\w.]+)`", GUIDE):
        module, _, member = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            found: ModuleType = importlib.import_module(module)
            assert hasattr(found, member), name
    for path in re.findall(r"`((?:tests|examples)/[\w./]+)`", GUIDE):
        assert (ROOT / path).exists(), path


@needs_cc
def test_it_is_listed_among_the_targets() -> None:
    done = ke_gen("targets")
    assert done.returncode == 0
    assert re.search(r"^c99\.host +one CPU core +here$", done.stdout, re.MULTILINE), done.stdout


def test_without_a_compiler_it_lowers_and_says_what_is_missing() -> None:
    file = str(ROOT / "examples" / "rms_norm.ir")
    listed = ke_gen("targets", "--json", CC="no-such-cc")
    (row,) = [r for r in json.loads(listed.stdout) if r["target"] == "c99.host"]
    assert row["presence"] == "missing" and "no-such-cc" in row["reason"] and "gcc" in row["fix"]
    source = ke_gen("--target", "c99", file, CC="no-such-cc")
    assert source.returncode == 0 and "static void k_rms_norm(" in source.stdout
    done = ke_gen("eval", file, "--targets", "c99", "--json", CC="no-such-cc")
    (verdict,) = json.loads(done.stdout)
    assert done.returncode == 2 and verdict["summary"] == "unknown"


@needs_cc
@pytest.mark.parametrize(
    ("file", "sizes"),
    [
        ("rms_norm", {"B": 13, "D": 1030}),
        ("embedding_sum", {"V": 50, "D": 70, "T": 90, "B": 9}),
        ("matmul_gelu", {"M": 130, "K": 70, "N": 66}),
    ],
)
def test_examples_are_run_and_right(file: str, sizes: dict[str, int]) -> None:
    dims = [a for name, size in sizes.items() for a in ("--dim", f"{name}={size}")]
    path = str(ROOT / "examples" / f"{file}.ir")
    done = ke_gen("eval", path, "--targets", "c99", "--json", *dims)
    assert done.returncode == 0, done.stdout + done.stderr
    (verdict,) = json.loads(done.stdout)
    assert verdict["summary"] == "correct" and verdict["established"] == "run"
    assert not verdict["numbers"]["reduced"]
    assert verdict["timing"]["kind"] == "measured" and verdict["timing"]["seconds"] > 0
    assert ("made_up" in verdict["timing"]["detail"]) == (file == "embedding_sum")
    assert 0 < verdict["roofline"]["fraction"] < 1


@needs_cc
@pytest.mark.parametrize("name", KERNELS)
def test_every_op_kind(name: str) -> None:
    module = check(parse(KERNELS[name]))
    program = list(module.programs.values())[-1]
    dims = program.sizes()
    inputs = draw(program, dims, {})
    if "precision" in KERNELS[name] and "ieee" not in KERNELS[name]:
        with pytest.raises(IllegalProgram, match=r"`%\w+ = dot .*precision") as caught:
            run(module, program, dims, inputs)
        assert caught.value.fix == "use `precision ieee`"
        return
    with np.errstate(all="ignore"):
        want = interpret_program(module, program, dims, inputs, exact=False)
    agree(dict(run(module, program, dims, inputs).outputs), want, program)


@needs_cc
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(executable_kernels())
def test_random_kernels_agree_with_the_interpreter(e: ExecutableKernel) -> None:
    inputs = e.inputs()
    program = e.module.programs[e.kernel.name]
    try:
        got = run(e.module, program, program.sizes(), inputs).outputs
    except IllegalProgram as refused:
        assert "precision" in refused.what
        return
    want = interpret_kernel(e.kernel, None, inputs)
    for p in e.kernel.outputs:
        x, y = got[p.name].astype(np.float64), want[p.name].astype(np.float64)
        off = np.abs(x - y).max(initial=0.0)
        assert off <= e.errors[p.name], f"%{p.name}: {off}\n{print_module(e.module)}"


@needs_cc
def test_programs_views_and_once_from_one_compilation() -> None:
    module = check(parse(PROGRAM))
    program = module.programs["steps"]
    target = c99()
    texts = set()
    for m in (1, 3, 7):
        dims = program.sizes({"M": m})
        inputs = draw(program, dims, {})
        texts.add(target.lower(module, program, {}, dims).text)
        want = [inputs["x"] * (inputs["w"] + 1)]
        for _ in range(dims["T"] - 1):
            want.append(want[-1] * (inputs["w"] + 1))
        np.testing.assert_array_equal(run(module, program, dims, inputs).outputs["h"], want)
    assert len(texts) == 1, "a dim that is a range must not be in the text"
    timing = target.time(module, program, knobs_for(target, module, program), program.sizes())
    assert timing.kind is Kind.MEASURED and float(timing.detail["once_seconds"]) > 0
    assert target.estimate(module, program, {}, program.sizes()).kind is Kind.ESTIMATED


@needs_cc
def test_narrow_floats_decode_and_encode_bit_by_bit() -> None:
    kinds = {"f16": np.uint16, "bf16": np.uint16, "f8e5m2": np.uint8, "f8e4m3": np.uint8}
    text = (PACKAGE / "ke_gen_c99" / "prelude.h").read_text()
    for name, code in kinds.items():
        c = f"uint{np.dtype(code).itemsize * 8}_t"
        text += f"""
void read_{name}(const {c} *a, float *b, int n) {{ while (n--) b[n] = decode_{name}(a[n]); }}
void write_{name}(const double *a, {c} *b, int n) {{ while (n--) b[n] = encode_{name}(odd(a[n])); }}
"""
    build = importlib.import_module("ke_gen_c99.target").build
    library = build(text, ("-std=c99", "-O2", "-fPIC")).library

    def call(function: str, x: Any, out: Any) -> Any:
        library[function](*(ctypes.c_void_p(a.ctypes.data) for a in (x, out)), x.size)
        return out

    for name, code in kinds.items():
        dtype = DTYPES[name]
        codes = np.arange(1 << dtype.bits).astype(code)
        want = codes.view(dtype.numpy()).astype(np.float32)
        got = call(f"read_{name}", codes, np.empty(codes.size, np.float32))
        np.testing.assert_array_equal(got, want)
        values = np.sort(want[np.isfinite(want)].astype(np.float64))
        ties = (values[1:] + values[:-1]) / 2
        x = np.concatenate([values, ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf),
                            values * 1e3, [np.inf, -np.inf, np.nan]])  # fmt: skip
        out = call(f"write_{name}", x, np.empty(x.size, code))
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(
                out.view(dtype.numpy()).astype(np.float32), round_to(x, dtype), err_msg=name
            )


@needs_cc
def test_carried_values_that_change_places() -> None:
    module = check(
        parse("""kernel @k(%x: f32[N]) -> (%y: f32[N], %z: f32[N]) dims N = 8 {
      parallel %n = 0 to N tile 8 {
        %v = load %x[%n] : f32[8]
        %w = mul %v, 2.0
        %a, %b = for %i = 0 to 3 carry (%p = %v, %q = %w) { yield %q, %p }
        store %a, %y[%n]
        store %b, %z[%n]
      }
    }""")
    )
    x = np.arange(1, 9, dtype=np.float32)
    got = run(module, module.programs["k"], {"N": 8}, {"x": x}).outputs
    assert (got["y"].tolist(), got["z"].tolist()) == ((2 * x).tolist(), x.tolist())


@needs_cc
@pytest.mark.parametrize(
    ("right", "wrong", "kernel"),
    [
        ("% v.step != 0", "% 1 != 0", "ints"),
        ('live.append(f"{x} >= 0")', "pass", "conv"),
        ("{n} + {e} < end_{n}", "{n} + {e} <= end_{n}", "ints"),
    ],
)
def test_a_wrong_mask_is_caught(
    installed: Path, tmp_path: Path, right: str, wrong: str, kernel: str
) -> None:
    """The example's own faults show, be it by a number or by a guard."""
    shutil.copytree(installed / "ke_gen_c99", tmp_path / "ke_gen_c99")
    file = tmp_path / "ke_gen_c99" / "kernel.py"
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong))
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    program = f"import tests.test_target_guide as t; t.test_every_op_kind({kernel!r})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert re.search("AssertionError|stored outside", done.stderr), done.stderr


def test_tiles_beyond_the_limit_are_refused_with_both_figures() -> None:
    tile = 1 << 24  # 64 MiB
    text = f"""kernel @k(%x: f32[N]) -> (%y: f32[N]) dims N = 8 {{
      parallel %n = 0 to N tile {tile} {{
        %v = load %x[%n] : f32[{tile}]
        store exp exp exp exp %v, %y[%n]
      }}
    }}"""
    module = check(parse(text))
    program = list(module.programs.values())[-1]
    figures = "they take 335,544,320 bytes and 268,435,456"
    with pytest.raises(IllegalProgram, match=figures) as caught:
        c99().lower(module, program, {}, program.sizes())
    assert caught.value.fix == "use smaller tiles"


@needs_cc
def test_a_compiler_that_is_missing_or_complains(monkeypatch: pytest.MonkeyPatch) -> None:
    build = importlib.import_module("ke_gen_c99.target").build
    assert c99().availability().presence is Presence.HERE
    with pytest.raises(CompileFailed, match="cc rejected the C") as complaint:
        build("int x = ;", ("-std=c99",))
    assert "kernel.c:1:9: error" in complaint.value.why
    monkeypatch.setenv("CC", "no-such-cc")
    with pytest.raises(ToolchainMissing, match="no-such-cc") as missing:
        build("int x;", ("-std=c99",))
    assert "gcc" in missing.value.fix
