"""The kea dialect: MLIR rejects what does not fit it, and the shape rules what IRDL cannot say."""

from __future__ import annotations

import pytest

from lowering.mlir import adapter, checks

GOOD = """
func.func @f(%x: memref<?x?xf32>) {
  %c0 = arith.constant 0 : index
  "kea.kernel"() {mapping = "dynamic"} : () -> ()
  "kea.bind"(%x) : (memref<?x?xf32>) -> ()
  "kea.buffer"() {id = 0 : i32, offset = 0 : i64, bytes = 64 : i64, copies = 2 : i32} : () -> ()
  %t = "kea.tile"() {buffer = 0 : i32, control = false} : () -> memref<4x4xf32, 1>
  %u = "kea.tile"() {buffer = 0 : i32, control = false} : () -> memref<4xf32, 1>
  "kea.load"(%t, %x, %c0, %c0, %c0, %c0) {steps = array<i64: 1, 0, 0, 1>, pad = 0.0 : f64,
    operandSegmentSizes = array<i32: 1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0>}
    : (memref<4x4xf32, 1>, memref<?x?xf32>, index, index, index, index) -> ()
  "kea.unary"(%t, %t) {fn = "exp"} : (memref<4x4xf32, 1>, memref<4x4xf32, 1>) -> ()
  "kea.dot"(%t, %t, %t) {precision = "ieee", accumulate = false}
    : (memref<4x4xf32, 1>, memref<4x4xf32, 1>, memref<4x4xf32, 1>) -> ()
  "kea.reduce"(%u, %t) {fn = "sum", dim = 1 : i32}
    : (memref<4xf32, 1>, memref<4x4xf32, 1>) -> ()
  "kea.end"() : () -> ()
  return
}
"""
BY_MLIR = {
    "unknown operation": ("kea.unary", "kea.unaary"),
    "unknown function": ('fn = "exp"', 'fn = "expp"'),
    "missing attribute": (', accumulate = false}', "}"),
    "attribute of another type": ("dim = 1 : i32", 'dim = "1"'),
    "missing steps": ("steps = array<i64: 1, 0, 0, 1>, pad", "pad"),
    "segments": ("1, 1, 2, 2, 0", "1, 1, 2, 1, 0"),
    "operand types differ": (
        '"kea.unary"(%t, %t) {fn = "exp"} : (memref<4x4xf32, 1>, memref<4x4xf32, 1>)',
        '"kea.unary"(%t, %u) {fn = "exp"} : (memref<4x4xf32, 1>, memref<4xf32, 1>)',
    ),
    "not a memref": (
        '"kea.bind"(%x) : (memref<?x?xf32>)', '"kea.bind"(%c0) : (index)',
    ),
}  # fmt: skip
BY_SHAPE = {
    "reduced dimension": ("dim = 1 : i32", "dim = 2 : i32"),
    "number of bases": ("1, 1, 2, 2, 0", "1, 1, 1, 3, 0"),
    "number of steps": ("array<i64: 1, 0, 0, 1>", "array<i64: 1, 0, 0>"),
    "product": (
        '"kea.dot"(%t, %t, %t) {precision = "ieee", accumulate = false}\n'
        "    : (memref<4x4xf32, 1>, memref<4x4xf32, 1>, memref<4x4xf32, 1>)",
        '"kea.dot"(%t, %t, %u) {precision = "ieee", accumulate = false}\n'
        "    : (memref<4x4xf32, 1>, memref<4x4xf32, 1>, memref<4xf32, 1>)",
    ),
    "tensor as a tile": (
        '"kea.reduce"(%u, %t) {fn = "sum", dim = 1 : i32}\n'
        "    : (memref<4xf32, 1>, memref<4x4xf32, 1>)",
        '"kea.reduce"(%u, %x) {fn = "sum", dim = 1 : i32}\n'
        "    : (memref<4xf32, 1>, memref<?x?xf32>)",
    ),
}


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_good_ir_passes() -> None:
    checks.check(adapter.parse(GOOD, adapter.context()))


@pytest.mark.parametrize("name", BY_MLIR)
def test_mlir_rejects(name: str) -> None:
    with pytest.raises(adapter.MlirError, match="error"):
        adapter.parse(changed(*BY_MLIR[name]), adapter.context())


@pytest.mark.parametrize("name", BY_SHAPE)
def test_shape_rules_reject(name: str) -> None:
    module = adapter.parse(changed(*BY_SHAPE[name]), adapter.context())
    with pytest.raises(checks.ShapeError, match=r"kea\."):
        checks.check(module)


def test_the_runtime_knows_every_name_of_the_language() -> None:
    from ke_ir.types import DTYPES
    from lowering.mlir import dialect
    from targets.kea.simulator import code

    tables = {
        "unary": dialect.UNARY, "binary": dialect.BINARY, "cmp": dialect.COMPARE,
        "reduce": dialect.TILE_REDUCTIONS, "precision": dialect.PRECISIONS,
        "accumulate": dialect.ACCUMULATIONS, "mapping": dialect.MAPPING, "dtype": tuple(DTYPES),
    }  # fmt: skip
    for table, names in tables.items():
        assert len({code(table, n) for n in names}) == len(names)
    with pytest.raises(KeyError):
        code("unary", "frobnicate")
