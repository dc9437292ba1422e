"""Runs a generated file under Triton's interpreter on the CPU. Runs in a worker process only.

``TRITON_INTERPRET=1`` is set by the parent before this process starts, since Triton reads it when
it is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import triton.runtime.interpreter as interpreter

from targets.gpu.generated import parse
from targets.gpu.launch import run_checked
from targets.gpu.load import load_text
from targets.gpu.tensors import WIDENED, read_tensor, torch_dtype, write_tensor


class _Kept:
    """A patch scope that stays: this process does nothing but interpret."""

    def restore(self) -> None:
        """Keep the patch."""


_patched: set[int] = set()
_patch_language = interpreter._patch_lang


def _patch_once(function: Any) -> _Kept:
    """Patch ``triton.language`` once for each set of modules that a function sees.

    Triton does it anew for every kernel and every helper call, a few milliseconds each time: that
    is most of the time of a small interpretation.
    """
    seen = [value for value in function.__globals__.values() if value in _language_modules()]
    key = hash(frozenset(id(module) for module in seen))
    if key not in _patched:
        _patch_language(function)
        _patched.add(key)
    return _Kept()


def _language_modules() -> tuple[Any, ...]:
    return (interpreter.tl, interpreter.tl.core)


interpreter._patch_lang = _patch_once


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Run the launcher of ``text`` on each case of ``cases`` (lists of tensor entries).

    Reply: ``outputs``, one list of tensor entries for each case, in the declared dtypes.
    """
    generated = parse(request["text"])
    module = load_text(request["text"])
    launcher = getattr(module, generated.program)
    replies = []
    for number, case in enumerate(request["cases"]):
        inputs = {entry["name"]: _widened(read_tensor(entry), entry) for entry in case["inputs"]}
        wanted = [
            (output["name"], _carried(output["dtype"]), tuple(output["shape"]))
            for output in case["outputs"]
        ]
        results = run_checked(launcher, inputs, wanted, "cpu")
        replies.append(
            [
                _narrowed(
                    Path(request["folder"]) / f"out{number}_{index}.bin",
                    output["name"],
                    output["dtype"],
                    results[output["name"]],
                )
                for index, output in enumerate(case["outputs"])
            ]
        )
    return {"outputs": replies}


def _carried(dtype: str) -> torch.dtype:
    return torch.float32 if dtype in WIDENED else torch_dtype(dtype)


def _widened(tensor: torch.Tensor, entry: dict[str, Any]) -> torch.Tensor:
    return tensor.to(_carried(entry["dtype"]))


def _narrowed(path: Path, name: str, dtype: str, tensor: torch.Tensor) -> dict[str, Any]:
    """Convert back to the declared dtype, exactly or not at all."""
    if dtype in WIDENED:
        narrow = tensor.to(torch_dtype(dtype))
        exact = (narrow.to(torch.float32) == tensor) | (tensor.isnan() & narrow.isnan())
        if not bool(exact.all()):
            where = tuple(int(index) for index in (~exact).nonzero()[0])
            raise ValueError(
                f"output {name} at {where}: {tensor[where].item()!r} is not a {dtype} value; "
                "the text lowered for interpretation must round before it stores"
            )
        tensor = narrow
    return write_tensor(path, name, dtype, tensor)
