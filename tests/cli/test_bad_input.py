"""Bad input of every kind gets a diagnostic, an exit code, and never a traceback."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest_cli import COMMAND, EXAMPLES, Run, process

GOOD = EXAMPLES / "add_relu.ir"
KERNEL = """
kernel @k(%x: f32[64]) -> (%y: f32[64])
{{
  parallel %i = 0 to 64 tile 32 {{
    %v = load %x[%i] : f32[32]
    {body}
  }}
}}
"""
STORE = "store %v, %y[%i]"


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def go(text: str | bytes) -> Path:
        path = tmp_path / "bad.ir"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return go


FILES = {
    "empty": (b"", "no op and no kernel"),
    "comments only": (b"# nothing\n", "no op and no kernel"),
    "binary": (b"\x7fELF\x00\x01\x02", "binary file"),
    "not UTF-8": (b"op @f\n\xff\xfe", "not UTF-8: byte 0xff in line 2"),
    "words": (b"hello world", "unexpected `hello`"),
    "syntax": (b"op @f(x: f32[4]) -> (y: f32[4]) { y[i] = x[i] + }", "1:"),
    "unknown keyword": (b"kernl @f() -> () {}", "did you mean `kernel`?"),
    "10 MB": (b"# " + b"x" * 10_000_000, "4,000,000"),
    "huge": (b"x" * 17_000_000, "larger than"),
    "deep": (b"op @f(x: f32[4]) -> (y: f32[4]) { y[i] = " + b"(" * 5000, "nested"),
    "deep blocks": (b"kernel @k(%x: f32[4]) -> (%y: f32[4]) {" + b"for %i = 0 to 4 {" * 5000,
                    "nested"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", [["--target", "amd"], ["check"], ["eval", "-t", "amd"]])
def test_files_that_are_not_ke_ir(run: Run, write, name: str, command: list[str]) -> None:  # type: ignore[no-untyped-def]
    content, said = FILES[name]
    begin = time.perf_counter()
    done = run(*command, write(content))
    assert done.code == 2
    assert said in done.err + done.out
    assert len(done.err + done.out) < 5000
    assert time.perf_counter() - begin < 5


KERNELS = {
    "dtype": (KERNEL.format(body="%w = cast %v : f16\n    store %w, %y[%i]"), "f16"),
    "shape": (KERNEL.format(body="%w = full 0.0 : f32[16]\n    %z = add %v, %w\n    " + STORE),
              "f32[16]"),
    "undefined": (KERNEL.format(body="store %vv, %y[%i]"), "did you mean `v`?"),
    "two stores": (KERNEL.format(body=STORE + "\n    " + STORE), "%y"),
    "reads its output": (KERNEL.format(body="%w = load %y[%i] : f32[32]\n    " + STORE), "%y"),
    "never written": (KERNEL.format(body=""), "%y"),
    "part written": (KERNEL.format(body=STORE).replace("0 to 64", "0 to 32"), "0 to 31"),
    "static index": ("op @f(x: f32[4]) -> (y: f32[4]) { y[i] = x[i + 4] }", "0 to 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("command", [["--target", "amd"], ["check"], ["eval", "-t", "amd"]])
def test_kernels_that_are_wrong(run: Run, write, name: str, command: list[str]) -> None:  # type: ignore[no-untyped-def]
    text, said = KERNELS[name]
    path = write(text)
    done = run(*command, path)
    assert done.code == 1
    assert said in done.err + done.out
    assert f"{path}:" in done.err + done.out


def test_an_element_that_is_never_written_is_found_by_the_meaning_check(run: Run, write) -> None:  # type: ignore[no-untyped-def]
    kernel = KERNEL.format(body="store %v, %y[%i + 1]")
    path = write("op @k(x: f32[64]) -> (y: f32[64]) { y[i] = x[i] }" + kernel)
    done = run("check", path)
    assert done.code == 1 and "never written" in done.err


def test_a_kernel_that_computes_something_else(run: Run, write) -> None:  # type: ignore[no-untyped-def]
    kernel = KERNEL.format(body="%w = add %v, 1e-6\n    store %w, %y[%i]")
    path = write("op @k(x: f32[64]) -> (y: f32[64]) { y[i] = x[i] }" + kernel)
    done = run("check", path)
    assert done.code == 1 and "meaning" in done.err and "|error|" in done.err


def test_local_memory_exceeded(run: Run, write) -> None:  # type: ignore[no-untyped-def]
    big = KERNEL.format(body=STORE).replace("64", "1048576").replace("32", "262144")
    big = big.replace("f262144", "f32")
    path = write(big)
    done = run("--target", "kea", path)
    assert done.code == 1 and "local memory" in done.err
    done = run("eval", "--targets", "kea", path)
    assert done.code == 1 and "legal failed" in done.out


def test_paths(run: Run, tmp_path: Path) -> None:
    done = run("--target", "amd", tmp_path / "none.ir")
    assert done.code == 2 and "no such file" in done.err
    done = run("--target", "amd", EXAMPLES / "rms_norn.ir")
    assert "did you mean `rms_norm.ir`?" in done.err
    done = run("--target", "amd", tmp_path)
    assert done.code == 2 and "is a directory" in done.err
    done = run("check", tmp_path / "none.ir", GOOD)
    assert done.code == 2 and "no such file" in done.err and "@add_relu: ok" in done.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_permissions(run: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret.ir"
    secret.write_bytes(GOOD.read_bytes())
    secret.chmod(0)
    assert "Permission denied" in run("--target", "amd", secret).err
    tmp_path.chmod(0o500)
    assert "Permission denied" in run("--target", "amd", GOOD, "-o", tmp_path / "o.py").err


def test_output_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    for bad in (tmp_path, tmp_path / "no" / "such" / "o.py", GOOD / "o.py", "/dev/full"):
        done = run("--target", "amd", GOOD, "-o", bad)
        assert done.code == 2 and f"cannot write {bad}" in done.err


def test_standard_output_that_is_full() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [str(COMMAND), "--target", "amd", str(GOOD)], stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2 and "No space left" in done.stderr
    assert "Traceback" not in done.stderr


USAGE = {
    "unknown target": (["--target", "amdd", GOOD], "did you mean `amd`?"),
    "unknown arch": (["--target", "amd.gfx943", GOOD], "did you mean `gfx942`?"),
    "arch of another": (["--target", "nvidia", "--arch", "gfx942", GOOD], "sm_90"),
    "empty target": (["--target", "", GOOD], "unknown target"),
    "no target": ([GOOD], "--target is missing"),
    "unknown emit": (["--target", "amd", "--emit", "ttr", GOOD], "did you mean `ttir`?"),
    "emit of another": (["--target", "kea", "--emit", "ttir", GOOD], "of target kea"),
    "unknown option": (["--targt", "amd", GOOD], "--target"),
    "unknown command": (["chekc", GOOD], "did you mean `check`?"),
    "two files": (["--target", "amd", GOOD, GOOD], "unexpected extra argument"),
    "no file": (["--target", "amd"], "Missing argument"),
    "unknown dim": (["--target", "amd", "--dim", "E=3", GOOD], "no dim `E`"),
    "dim without size": (["--target", "amd", "--dim", "B", GOOD], "NAME=SIZE"),
    "negative dim": (["--target", "amd", "--dim", "B=-1", GOOD], "NAME=SIZE"),
    "dim of zero": (["--target", "amd", "--dim", "D=0", GOOD], "1 or more"),
    "dim out of range": (["--target", "amd", "--dim", "B=65537", GOOD], "1 to 65536"),
    "unknown kernel": (["--target", "amd", "--kernel", "add_rel", GOOD], "did you mean `add_relu`"),
    "unknown target in eval": (["eval", "--targets", "amd,kae", GOOD], "did you mean `kea`?"),
    "no such baseline": (["eval", "--baseline", "nope.py", "-t", "amd", GOOD], "nope.py"),
    "diff of one": (["diff", GOOD], "diff takes two files"),
    "check of none": (["check"], "Missing argument"),
}  # fmt: skip


@pytest.mark.parametrize("name", USAGE)
def test_usage(run: Run, name: str) -> None:
    arguments, said = USAGE[name]
    done = run(*arguments)
    assert done.code == 2, done.err
    assert said in done.err
    assert done.out == ""


def test_several_kernels_need_a_choice(run: Run, tmp_path: Path) -> None:
    both = tmp_path / "both.ir"
    both.write_text(GOOD.read_text() + (EXAMPLES / "softmax.ir").read_text())
    done = run("--target", "amd", both)
    assert done.code == 2 and "add_relu, softmax" in done.err
    assert run("--target", "amd", "--kernel", "@softmax", both).code == 0


@pytest.mark.usefixtures("third_party")
def test_a_toolchain_that_is_not_installed(run: Run) -> None:
    done = run("--target", "fake.no-tool", "--emit", "asm", GOOD)
    assert done.code == 2 and "apt install fakecc" in done.err
    done = run("eval", "--targets", "fake.no-tool", GOOD)
    assert done.code == 2 and "unknown" in done.out and "apt install fakecc" in done.out
    assert run("--target", "fake.no-tool", GOOD).code == 0


def test_mlir_that_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "mlir.py").write_text("raise ModuleNotFoundError('no mlir', name='mlir')")
    (tmp_path / "torch_mlir.py").write_text("raise ModuleNotFoundError('no', name='torch_mlir')")
    done = process("--target", "kea", "--emit", "llvm", GOOD, PYTHONPATH=str(tmp_path))
    assert done.code == 2 and "mlir" in done.err


@pytest.mark.usefixtures("third_party")
def test_a_compiler_that_crashes(run: Run) -> None:
    done = run("--target", "fake.crash", "--emit", "asm", GOOD)
    assert done.code == 1 and "SIGABRT" in done.err


@pytest.mark.usefixtures("third_party")
def test_a_target_that_cannot_be_loaded(run: Run) -> None:
    done = run("--target", "broken", GOOD)
    assert done.code == 2 and "fake-target" in done.err
