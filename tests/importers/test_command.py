"""``ke-gen import`` and the commands that take FILE.py:NAME, as a user meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest_cli import Run

GOOD = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.fc = nn.Linear(n, 8)

    def forward(self, x):
        return torch.relu(self.fc(x))

def double(x):
    return x * 2

def get_inputs():
    return [torch.randn(4, 16)]

def get_init_inputs():
    return [16]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "3_Linear_ReLU.py"
    path.write_text(GOOD)
    return path


def test_import_writes_an_op_that_every_command_reads(run: Run, file: Path) -> None:
    out = file.with_suffix(".ir")
    assert run("import", f"{file}:Model", "-o", out).code == 0
    text = out.read_text()
    assert "op @linear_relu(fc_weight: f32[8, 16], fc_bias: f32[8], x: f32[4, 16])" in text
    assert "#   fc_weight: parameter fc.weight" in text
    assert run("check", out).code == 0


def test_a_module_stands_in_for_a_file(run: Run, file: Path) -> None:
    done = run("--target", "nvidia", f"{file}:Model")
    assert done.code == 0, done.err
    assert "tl.load" in done.out
    done = run("--emit", "ir", f"{file}:double")
    assert "x[i, j] * 2" in done.out


def test_evaluation_of_a_module(run: Run, file: Path) -> None:
    done = run("eval", f"{file}:Model", "--targets", "kea")
    assert done.code == 0, done.out + done.err
    assert "correct" in done.out


def test_random_draws_are_inputs_that_every_command_makes(run: Run, file: Path) -> None:
    file.write_text(GOOD.replace("torch.relu(self.fc(x))", "torch.dropout(self.fc(x), 0.2, True)"))
    done = run("import", f"{file}:Model")
    assert "#   native_dropout_mask: random draw 0, bernoulli(0.8)" in done.out, done.err
    assert "native_dropout_mask: i1[4, 8]" in done.out
    done = run("eval", f"{file}:Model", "--targets", "kea")
    assert done.code == 0, done.out + done.err
    assert "correct" in done.out


BAD = {
    "no_inputs": (GOOD.replace("get_inputs", "other"), "does not define `get_inputs`"),
    "raises": (GOOD.replace("return torch.relu", "return 1 / 0 * torch.relu"), "division by zero"),
    "raises_in_init": (GOOD.replace("nn.Linear(n, 8)", "nn.Linear(n, 'x')"), "making `Model`"),
    "no_syntax": (GOOD.replace("class Model", "class Model("), "SyntaxError"),
    "branches": (
        GOOD.replace("return torch.relu", "return x if x.sum() > 0 else torch.relu"),
        "control flow depends on",
    ),
    "complex": (GOOD.replace("self.fc(x)", "self.fc(x).to(torch.complex64).real"), "complex"),
    "large": (GOOD.replace("torch.randn(4, 16)", "torch.empty(10 << 26, 4)"), "GiB"),
    "exits": (GOOD + "\nimport os; os._exit(3)\n", "exit code 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_imported_is_said_in_one_message(run: Run, file: Path, case: str) -> None:
    text, said = BAD[case]
    file.write_text(text)
    done = run("import", f"{file}:Model")
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_name_that_is_not_there(run: Run, file: Path) -> None:
    done = run("import", f"{file}:Modell")
    assert done.code == 2
    assert "did you mean `Model`" in done.err
    assert run("import", f"{file.parent}/none.py:Model").code == 2
    assert "FILE.py:NAME" in run("import", "x.ir").err
