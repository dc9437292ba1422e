"""``reference()`` computes what the op says: in float64, against KE-IR's evaluation of the op."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.strategies import one_of

from ke_ir.evaluate import evaluate_op
from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.types import DType
from ke_ir.verify import check, verify
from lowering.triton import TritonOptions, Unsupported
from lowering.triton.program import reference_of
from lowering.triton.values import F8, Carriers, declared_torch
from targets.gpu.interpret import check_versions
from tests.ir.derive_check import random_inputs
from tests.ir.op_strategies import Sample, contractions, ops
from tests.ir.recurrences import CELLS, EXTRA
from tests.lowering_triton.conftest import H100, Inputs, lowered, random_input, read


def reference(module: Module, dims: dict[str, int]) -> str:
    (op,) = module.ops.values()
    return reference_of(op, op.sizes(dims), Carriers(TritonOptions(H100)))[0]


def _declared(d: DType, x: np.ndarray[Any, Any]) -> Any:
    """An array as a PyTorch tensor of the dtype it stands for."""
    import torch

    dtype = getattr(torch, declared_torch(d).removeprefix("torch."))
    if d in (DType.BF16, *F8):
        return torch.as_tensor(np.asarray(x).view(f"u{d.bits // 8}").astype(f"i{d.bits // 8}")
                               ).view(dtype)  # fmt: skip
    return torch.as_tensor(x, dtype=dtype)


def agree(
    module: Module,
    dims: dict[str, int] | None = None,
    inputs: Inputs | None = None,
    tolerance: float = 1e-12,
) -> str:
    """Run the generated function on float64 inputs beside the op; returns its text."""
    import torch

    (op,) = module.ops.values()
    sizes = op.sizes(dims)
    rng = np.random.default_rng(1)
    given = {p.name: random_input(p, sizes, rng) for p in op.inputs}
    given.update(inputs(sizes, rng) if inputs else {})
    want = evaluate_op(op, dims, given)
    text = reference(module, dims or {})
    space: dict[str, Any] = {"torch": torch, "DIMS": sizes}
    exec(text, space)
    wide = [
        torch.as_tensor(x.astype(np.float64) if op.tensors[n].dtype.is_float else x)
        for n, x in given.items()
    ]
    got = space["reference"](*wide)
    for p, g in zip(op.outputs, got if isinstance(got, tuple) else (got,), strict=True):
        # Without a floating input, nothing tells that float64 is wanted.
        near = (
            tolerance if g.dtype == torch.float64 else 2.0 ** -(8 if p.type.dtype.bits < 32 else 22)
        )
        expected = want[p.name] if near == tolerance else want[p.name].astype(p.type.dtype.numpy())
        np.testing.assert_allclose(
            g.double().numpy(), expected.astype(np.float64), rtol=near, atol=near
        )
        assert tuple(g.shape) == want[p.name].shape
    narrow = space["reference"](*(_declared(op.tensors[n].dtype, x) for n, x in given.items()))
    wide_only = {p.type.dtype for p in op.inputs if p.type.dtype.is_float} == {DType.F64}
    for p, g in zip(op.outputs, narrow if isinstance(narrow, tuple) else (narrow,), strict=True):
        if not (wide_only and p.type.dtype.is_float):
            assert str(g.dtype) == declared_torch(p.type.dtype)
    return text


def op(signature: str, dims: str, equations: str) -> Module:
    return check(parse(f"op @o{signature}\ndims {dims}\n{{\n{equations}\n}}"))


@pytest.mark.parametrize(
    ("stem", "dims", "says"),
    [
        ("rms_norm", {"B": 3, "D": 8}, "torch.rsqrt"),
        ("matmul_gelu", {"M": 3, "K": 4, "N": 5}, "h = x @ w + c"),
        ("attention", {"B": 2, "H": 2, "N": 6, "D": 4}, 'torch.einsum("bhid,bhjd->bhij", q, k)'),
        ("conv1d", {"B": 2, "C": 3, "O": 4, "L": 5}, "functional.conv1d(x, w, padding=1)"),
    ],
)
def test_examples(stem: str, dims: dict[str, int], says: str) -> None:
    assert says in agree(read(stem), dims)


def test_jagged_rows() -> None:
    def inputs(sizes: dict[str, int], rng: np.random.Generator) -> dict[str, Any]:
        return {"offsets": np.array([0, 2, 2, 11], np.int32)}

    dims = {"V": 7, "D": 4, "T": 11, "B": 3}
    assert "index_add_" in agree(read("embedding_sum"), dims, inputs)


@pytest.mark.parametrize("name", [*CELLS, *EXTRA])
def test_recurrences(name: str) -> None:
    module = check(parse({**CELLS, **EXTRA}[name]))
    for dims in ({}, {"T": 1}):
        assert ("for step in range(1, T):" in agree(module, dims)) or name == "layers"


OPS = {
    "scans": op(
        "(x: f32[B, N], k: i32[B, N], m: i1[N]) -> (y: f32[B, N], z: f32[N, B], q: i32[B, N])",
        "B in 1..9 = 3, N in 1..99 = 9",
        "y[b, i] = sum[j in 0 to i + 1](x[b, j]) * 2 + prod[l in i + 1 to N](x[b, l])\n"
        "z[i, b] = max[j in i to N](x[b, j]) - sum[l in 0 to i](select(m[l], x[b, l] * l, 0))\n"
        "q[b, i] = min[j in 0 to i + 1](k[b, j]) + sum[l in 2 to i + 1](k[b, l] + 1)"
        " + sum[n in i to N](1)",
    ),
    "reductions": op(
        "(x: f32[B, D]) -> (y: f32[B, D], z: i32[B], q: i1[B])", "B = 3, D = 4",
        "z[b] = argmax[d](x[b, d])\nq[b] = any[d](x[b, d] > 0.5 and not (d == 2))\n"
        "y[b, d] = select(x[b, d] > 0, 1.0, 0.1) + d * 0.5 + max[e](x[b, e]) - prod[e](x[b, e])",
    ),
    "indices": op(
        "(x: f32[B, D], i: i32[B]) -> (y: f32[B, D])", "B = 3, D = 5",
        "y[b, d] = x[i[b] % 3, (d + 2) % 5] + x[b, d - 1 else 7.0] * x[b // 2, 4 - d]"
        " + pow(abs(x[b, d]), 1.5) + min(x[b, d], 0.3) + min(x[b, d], x[b, 0])"
        " - tanh(x[b, d]) / sqrt(D) + i[b] / 2",
    ),
    "strided": op(
        "(x: f32[N, C, H, W], w: f32[O, C, 3, 3]) -> (y: f32[N, O, P, Q])",
        "N = 2, C = 3, H = 8, W = 9, O = 2, P = 4, Q = 5",
        "y[n, o, i, j] = sum[c, p, q](x[n, c, 2*i + p - 1, 2*j + q - 1 else 0] * w[o, c, p, q])",
    ),
    "cropped": op(
        "(x: f32[N, C, L], w: f32[O, C, 2]) -> (y: f32[N, O, M])",
        "N = 2, C = 3, L = 9, O = 2, M = 4",
        "y[n, o, i] = sum[c, p](x[n, c, i + 2*p - 1 else 0] * w[o, c, p])",
    ),
    "depthwise": op(
        "(x: f32[N, C, L], w: f32[C, 3]) -> (y: f32[N, C, L])", "N = 2, C = 3, L = 8",
        "y[n, c, i] = sum[p](x[n, c, i + p - 2 else 0] * w[c, p])",
    ),
    "three factors": op(
        "(x: f32[B, N, D], w: f32[D, K]) -> (y: f32[B, N, K], s: f32[])",
        "B = 2, N = 3, D = 4, K = 5",
        "y[b, n, k] = sum[m, d](x[b, n, d] * x[b, m, d] * w[d, k]) * 2.0\n"
        "s[] = sum[b, n, k](y[b, n, k])",
    ),
    "transposed": op(
        "(x: f32[K, M], w: f64[N, K]) -> (y: f32[M, N])", "M = 3, N = 4, K = 5",
        "y[m, n] = sum[k](x[k, m] * w[n, k])",
    ),
    "integers": op(
        "(x: i8[B, D], y: i8[D, E]) -> (z: i32[B, E])", "B = 2, D = 3, E = 4",
        "z[b, e] = sum[d](x[b, d] * y[d, e] * 100) // 3",
    ),
    "independent": op(
        "(x: f32[B, D]) -> (z: f32[D], c: f32[B, D])", "B = 2, D = 6",
        "z[d] = sum[b, e in 0 to 3](x[b, d]) + sum[b, f in 1 to 3](x[b, f])\nc[b, d] = 2.5",
    ),
    "narrow": op(
        "(x: f8e4m3[B, D], y: bf16[D]) -> (z: bf16[B])", "B = 2, D = 6",
        "z[b] = sum[d](x[b, d] * y[d])",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPS)
def test_op(name: str) -> None:
    agree(OPS[name])


def test_jagged_maximum() -> None:
    module = op(
        "(v: f32[T], off: i32[B + 1], c: f32[B, E]) -> (z: f32[B, E])", "B = 2, T = 6, E = 3",
        "z[b, e] = max[t in off[b] to off[b + 1]](v[t] * c[b, e])",
    )  # fmt: skip
    agree(module, inputs=lambda sizes, rng: {"off": np.array([0, 2, 6], np.int32)})


def _offsets(*values: int) -> Inputs:
    return lambda sizes, rng: {"off": np.array(values, np.int32)}


JAGGED = {
    "norms": ("sum[l in off[b] to off[b + 1]](sqrt(sum[d](x[l, d] * x[l, d])))", "f32"),
    "product": ("prod[l in off[b] to off[b + 1]](x[l, 0] + 1.5)", "f32"),
    "constant": ("sum[l in off[b] to off[b + 1]](1.25)", "f32"),
    "any": ("any[l in off[b] to off[b + 1]](x[l, 1] > 0.5)", "i1"),
    "all": ("all[l in off[b] to off[b + 1]](x[l, 1] < 0.5)", "i1"),
    "two ranges": ("sum[l in off[b] to off[b + 1], k in 0 to l](x[k, 0] * x[l, 1])", "f32"),
    "rows of rows": (
        "max[l in off[b] to off[b + 1]](sum[k in off[b] to l + 1](x[k, 0] + b * x[l, 1]))", "f32"
    ),
    "a fixed row": ("sum[l in off[1] to off[2]](x[l, 0]) + b", "f32"),
}  # fmt: skip


@pytest.mark.parametrize("name", JAGGED)
def test_jagged(name: str) -> None:
    body, d = JAGGED[name]
    module = op(
        f"(x: f32[L, D], off: i32[B + 1]) -> (y: {d}[B])", "B = 4, L = 11, D = 3", f"y[b] = {body}"
    )
    last = (0, 3, 3, 4, 11) if name not in ("rows of rows",) else (0, 3, 4, 6, 11)
    agree(module, inputs=_offsets(*last))


@pytest.mark.parametrize("kind", ["argmax", "argmin"])
def test_jagged_positions(kind: str) -> None:
    module = op(
        "(x: f32[L, D], off: i32[B + 1]) -> (y: i32[B, D])", "B = 3, L = 8, D = 3",
        f"y[b, d] = {kind}[l in off[b] to off[b + 1]](x[l, d] // 1.0)",
    )  # fmt: skip
    agree(module, inputs=_offsets(0, 1, 4, 8))


def test_ranges_that_depend_on_one_another() -> None:
    module = op("() -> (y: i32[2])", "B = 9", "y[n] = sum[i in 0 to B, j in 0 to i](j + n)")
    agree(module)


def test_a_position_counts_from_0() -> None:
    agree(
        op("(x: f32[B, D]) -> (y: i32[B])", "B = 3, D = 8", "y[b] = argmax[d in 2 to 6](x[b, d])")
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(sample=one_of(ops(), contractions()))
def test_random_ops(sample: Sample) -> None:
    module = Module((sample.op,))
    assume(not verify(module))
    try:
        reference(module, sample.sizes)
    except Unsupported as refused:  # as the launcher would
        assume("no tensor's shape tells its size" not in str(refused))
        raise
    agree(
        module,
        sample.sizes,
        lambda sizes, rng: random_inputs(sample.op, sizes, limits=sample.limits),
        tolerance=1e-9,
    )


def test_run_time_dims_are_read_from_shapes() -> None:
    text = reference(read("rms_norm"), {})
    assert "8192" not in text


def test_a_generated_file_checks_itself(tmp_path: Any) -> None:
    """Run as a script under Triton's interpreter, it compares launcher and reference."""
    import os
    import re
    import subprocess
    import sys

    path = tmp_path / "generated.py"
    path.write_text(lowered(read("matmul_gelu"), {"M": 37, "K": 64, "N": 128}, interpret=True))
    check_versions()
    environment = {**os.environ, "TRITON_INTERPRET": "1", "TRITON_CACHE_DIR": str(tmp_path),
                   "CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}  # fmt: skip
    done = subprocess.run([sys.executable, str(path)], env=environment, capture_output=True,
                          text=True, check=True)  # fmt: skip
    found = re.match(r"y: largest error (\S+), largest value (\S+)", done.stdout)
    assert found
    assert float(found[1]) < 0.01 * float(found[2])
