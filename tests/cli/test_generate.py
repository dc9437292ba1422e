"""The main form: ``ke-gen --target T FILE``."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest_cli import COMMAND, EXAMPLES, Run, process

RMS = EXAMPLES / "rms_norm.ir"


@pytest.mark.parametrize("example", sorted(p.stem for p in EXAMPLES.glob("*.ir")))
@pytest.mark.parametrize("target", ["amd", "nvidia"])
def test_every_example_gives_python_that_stands_alone(run: Run, example: str, target: str) -> None:
    done = run("--target", target, EXAMPLES / f"{example}.ir")
    assert done.code == 0 and done.err == ""
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(ast.parse(done.out))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {"torch", "triton"} <= imported <= {"torch", "triton", "math", "__future__"}


@pytest.mark.parametrize("example", sorted(p.stem for p in EXAMPLES.glob("*.ir")))
def test_every_example_gives_mlir(run: Run, example: str) -> None:
    done = run("--target", "kea", EXAMPLES / f"{example}.ir")
    assert done.code == 0 and "kea." in done.out


def test_target_and_arch_forms_agree(run: Run) -> None:
    first = run("--target", "amd.gfx950", RMS).out
    assert first == run("-t", "amd", "--arch", "gfx950", RMS).out
    assert "gfx950" in first or first == run("-t", "amd", RMS).out


@pytest.mark.parametrize(
    ("target", "emit", "holds"),
    [
        ("amd", "ir", "kernel @rms_norm("),
        ("amd", "ttir", "tt.func"),
        ("amd.gfx90a", "asm", "gfx90a"),
        ("nvidia", "asm", ".target sm_90"),
        ("kea", "mlir", "kea."),
        ("kea", "llvm", "llvm.func"),
    ],
)
def test_emit(run: Run, target: str, emit: str, holds: str) -> None:
    done = run("--target", target, "--emit", emit, RMS)
    assert done.code == 0 and holds in done.out


def test_emitted_ir_is_canonical_and_reads_back(run: Run, tmp_path: Path) -> None:
    first = run("--emit", "ir", RMS).out
    again = tmp_path / "again.ir"
    again.write_text(first)
    assert run("--emit", "ir", again).out == first


def test_output_file(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "rms.py"
    done = run("--target", "amd", RMS, "-o", out)
    assert (done.code, done.out) == (0, "")
    assert out.read_text() == run("--target", "amd", RMS).out
    assert [p.name for p in tmp_path.iterdir()] == ["rms.py"]


def test_standard_input(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(COMMAND), "--target", "amd", "-"], input=RMS.read_bytes(), capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0 and b"@triton.jit" in done.stdout


def test_sizes_reach_the_lowering(run: Run) -> None:
    assert '"D": 96' in run("--target", "amd", "--dim", "D=96", RMS).out


def test_start_up_loads_no_toolchain(tmp_path: Path) -> None:
    program = (
        "import sys\nsys.argv = ['ke-gen', '--target', 'amd', sys.argv[1], '-o', sys.argv[2]]\n"
        "from ke_gen.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "heavy = {'torch', 'triton', 'mlir', 'numpy', 'rich', 'ml_dtypes', 'openai', 'networkx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(RMS), str(tmp_path / "o.py")],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr


def test_a_users_folders_do_not_shadow_ours(tmp_path: Path) -> None:
    for name in ("targets", "search", "lowering", "ke_ir"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(99)")
    assert process("--target", "amd", RMS, cwd=tmp_path).code == 0
    module = subprocess.run(
        [sys.executable, "-m", "ke_gen", "--target", "amd", str(RMS)], cwd=tmp_path,
        capture_output=True, check=False,
    )  # fmt: skip
    assert module.returncode == 0


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{COMMAND} --target amd {RMS} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == "" and done.stdout.strip() in ("0", "141")


def test_broken_pipe(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [str(COMMAND), "--target", "amd", str(RMS)], stdout=writer, stderr=subprocess.PIPE,
        check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_interrupt() -> None:
    process_ = subprocess.Popen(
        [str(COMMAND), "--target", "amd", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(0.5)  # until it reads
    process_.send_signal(signal.SIGINT)
    assert process_.communicate(timeout=10)[1] == b"interrupted\n"
    assert process_.returncode == 130


def test_version_and_help(run: Run) -> None:
    assert run("--version").out.startswith("ke-gen, version ")
    for shown in (run(), run("--help")):
        assert shown.code == 0
        assert "ke-gen eval" in shown.out and "Exit codes" in shown.out
    for command in ("check", "eval", "diff", "targets"):
        assert f"Usage: ke-gen {command}" in run(command, "--help").out
