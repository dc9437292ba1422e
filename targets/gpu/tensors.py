"""Moves arrays between the caller (numpy) and a worker (torch), byte for byte.

numpy has no bfloat16 or float8 of its own and ``.npy`` files do not keep the ml_dtypes ones, so a
tensor travels as a raw file with its KE-IR dtype and shape beside it in the request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ke_ir.types import DTYPES, DType
from targets.gpu.generated import TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, Any]

_BY_NUMPY_NAME = {
    "float64": DType.F64,
    "float32": DType.F32,
    "float16": DType.F16,
    "bfloat16": DType.BF16,
    "float8_e4m3fn": DType.F8E4M3,
    "float8_e5m2": DType.F8E5M2,
    "int64": DType.I64,
    "int32": DType.I32,
    "int16": DType.I16,
    "int8": DType.I8,
    "uint8": DType.U8,
    "bool": DType.I1,
}

WIDENED = frozenset({"bf16", "f8e4m3", "f8e5m2"})
"""Carried as float32 by the interpreter (see ``docs/generated-triton.md``)."""


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of a KE-IR dtype name. Raises KeyError for an unknown one."""
    import torch

    dtype: torch.dtype = getattr(torch, DTYPES[name].numpy().name)
    return dtype


def write_arrays(
    folder: Path, arrays: Mapping[str, Array], prefix: str = ""
) -> list[dict[str, Any]]:
    """Write each array as a raw file and describe it: ``[{name, dtype, shape, file}]``."""
    entries = []
    for index, (name, array) in enumerate(arrays.items()):
        path = folder / f"{prefix}{index}.bin"
        path.write_bytes(array.tobytes())
        entries.append(
            {
                "name": name,
                "dtype": ir_dtype(array.dtype),
                "shape": list(array.shape),
                "file": str(path),
            }
        )
    return entries


def case_entries(
    cases: Sequence[tuple[Mapping[str, Array], Mapping[str, TensorSpec]]], folder: Path
) -> list[dict[str, Any]]:
    """Write the inputs of each case to ``folder`` and describe the case for a worker."""
    return [
        {
            "inputs": write_arrays(folder, inputs, f"in{number}_"),
            "outputs": [
                {"name": output, "dtype": spec.dtype, "shape": list(spec.shape)}
                for output, spec in outputs.items()
            ],
        }
        for number, (inputs, outputs) in enumerate(cases)
    ]


def read_arrays(entries: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """The inverse of ``write_arrays``."""
    import numpy as np

    arrays = {}
    for entry in entries:
        flat = np.fromfile(entry["file"], dtype=DTYPES[entry["dtype"]].numpy())
        arrays[entry["name"]] = flat.reshape(entry["shape"])
    return arrays


def ir_dtype(dtype: np.dtype[Any]) -> str:
    """The KE-IR name of a numpy or ml_dtypes dtype. Raises KeyError for one that KE-IR lacks."""
    return str(_BY_NUMPY_NAME[dtype.name])


def read_tensor(entry: Mapping[str, Any]) -> torch.Tensor:
    """One entry as a CPU tensor in its own dtype."""
    import numpy as np
    import torch

    raw = torch.from_numpy(np.fromfile(entry["file"], dtype=np.uint8))
    return raw.view(torch_dtype(entry["dtype"])).reshape(entry["shape"])


def write_tensor(path: Path, name: str, dtype: str, tensor: torch.Tensor) -> dict[str, Any]:
    """Write a tensor (any device) as a raw file; the entry describes it."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    path.write_bytes(flat.view(torch.uint8).numpy().tobytes())
    return {"name": name, "dtype": dtype, "shape": list(tensor.shape), "file": str(path)}


def as_array(tensor: torch.Tensor) -> Array:
    """The tensor's elements as an array of the same dtype, bfloat16 and float8 as ml_dtypes."""
    import numpy as np
    import torch

    dtype = next(d.numpy() for d in _BY_NUMPY_NAME.values() if torch_dtype(str(d)) == tensor.dtype)
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    raw: Array = flat.view(torch.uint8).numpy()
    return np.asarray(raw.view(dtype).reshape(tuple(tensor.shape)))


def as_tensor(array: Array) -> torch.Tensor:
    """The array's elements as a tensor of the same dtype."""
    import numpy as np
    import torch

    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    raw = torch.from_numpy(flat).view(torch_dtype(ir_dtype(array.dtype)))
    return raw.reshape(array.shape)
