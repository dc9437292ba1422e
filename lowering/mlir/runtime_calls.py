"""The pass from the ``kea`` dialect to calls of the simulator's C interface.

Each command becomes one call (memory accesses one more for each coordinate and limit). Tiles and
tensors become small integers; shapes are handed over once, where a tile or tensor is declared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lowering.mlir import adapter
from lowering.mlir.dialect import MAX_RANK

Code = Callable[[str, str], int]
"""``code(table, name)``: the number by which the runtime knows an operation or dtype."""

_DTYPES = {"f8E4M3FN": "f8e4m3", "f8E5M2": "f8e5m2", "ui8": "u8"}


class RuntimeCalls:
    """Rewrites one module in place. Use ``lower_to_calls``."""

    def __init__(self, module: Any, code: Code) -> None:
        self.ir = adapter.ir()
        self.func = adapter.dialect("func")
        self.arith = adapter.dialect("arith")
        self.memref = adapter.dialect("memref")
        self.llvm = adapter.dialect("llvm")
        self.module, self.code = module, code
        self.i32 = self.ir.IntegerType.get_signless(32)
        self.i64 = self.ir.IntegerType.get_signless(64)
        self.f64 = self.ir.F64Type.get()
        self.index = self.ir.IndexType.get()
        self.declared: dict[str, tuple[list[Any], list[Any]]] = {}
        self.ids: dict[Any, int] = {}
        self.buffer_of: dict[Any, tuple[int, int]] = {}
        self.constants: dict[tuple[str, str], Any] = {}
        self.entry: Any = None

    def run(self) -> None:
        for function in list(self.module.body.operations):
            if function.operation.name == "func.func" and len(function.regions[0].blocks):
                self._function(function)
        with self.ir.InsertionPoint.at_block_begin(self.module.body):
            for name, (operands, results) in self.declared.items():
                kind = self.ir.FunctionType.get(operands, results)
                self.func.FuncOp(name, kind, visibility="private")

    def _function(self, function: Any) -> None:
        self.ids, self.constants = {}, {}
        self.entry = function.regions[0].blocks[0]
        ops = adapter.operations(function, "kea.")
        for op in ops:
            with self.ir.InsertionPoint(op):
                getattr(self, "_" + op.name.removeprefix("kea."))(op)
        for op in reversed(ops):
            op.erase()

    # ---- pieces ------------------------------------------------------------------------------

    def _constant(self, kind: str, value: int | float) -> Any:
        """A constant at the function's start, made once."""
        key = (kind, repr(value))
        if key not in self.constants:
            types = {"i32": self.i32, "i64": self.i64, "f64": self.f64}
            with self.ir.InsertionPoint.at_block_begin(self.entry):
                attr = (
                    self.ir.FloatAttr.get(self.f64, float(value)) if kind == "f64"
                    else self.ir.IntegerAttr.get(types[kind], int(value))
                )  # fmt: skip
                self.constants[key] = self.arith.ConstantOp(types[kind], attr).result
        return self.constants[key]

    def _i32(self, *values: int) -> list[Any]:
        return [self._constant("i32", v) for v in values]

    def _i64(self, values: Sequence[int], length: int | None = None) -> list[Any]:
        padded = [*values, *[0] * ((length or len(values)) - len(values))]
        return [self._constant("i64", v) for v in padded]

    def _word(self, value: Any) -> Any:
        """An index as i64."""
        return self.arith.IndexCastOp(self.i64, value).result

    def _call(self, name: str, operands: Sequence[Any], result: Any = None) -> Any:
        results = [] if result is None else [result]
        self.declared.setdefault(name, ([o.type for o in operands], results))
        call = self.func.CallOp(results, self.ir.FlatSymbolRefAttr.get(name), list(operands))
        return call.results[0] if results else None

    def _dtype(self, memref: Any) -> int:
        text = str(self.ir.MemRefType(memref.type).element_type)
        return self.code("dtype", _DTYPES.get(text, text))

    def _id(self, value: Any) -> int:
        return self.ids[value]

    def _segments(self, op: Any) -> list[list[Any]]:
        out, at = [], 0
        for n in self.ir.DenseI32ArrayAttr(op.attributes["operandSegmentSizes"]):
            out.append([op.operands[i] for i in range(at, at + n)])
            at += n
        return out

    def _name(self, op: Any, attribute: str) -> str:
        return str(self.ir.StringAttr(op.attributes[attribute]).value)

    def _int(self, op: Any, attribute: str) -> int:
        return int(self.ir.IntegerAttr(op.attributes[attribute]).value)

    def _number(self, op: Any, attribute: str) -> list[Any]:
        """A number as the pair (f64, i64) that the runtime takes."""
        attr = op.attributes[attribute]
        if isinstance(attr, self.ir.IntegerAttr):
            return [self._constant("f64", 0.0), *self._i64([self.ir.IntegerAttr(attr).value])]
        return [self._constant("f64", self.ir.FloatAttr(attr).value), *self._i64([0])]

    # ---- declarations ------------------------------------------------------------------------

    def _kernel(self, op: Any) -> None:
        self._call("kea_kernel", self._i32(self.code("mapping", self._name(op, "mapping"))))

    def _end(self, op: Any) -> None:
        self._call("kea_kernel_end", [])

    def _pointer(self, tensor: Any) -> Any:
        return self._word(self.memref.ExtractAlignedPointerAsIndexOp(tensor).result)

    def _sizes(self, tensor: Any) -> list[Any]:
        """The sizes of a tensor as i64 values."""
        out = []
        for d, size in enumerate(self.ir.MemRefType(tensor.type).shape):
            if size >= 0:
                out += self._i64([size])
            else:
                axis = self.arith.ConstantOp(self.index, self.ir.IntegerAttr.get(self.index, d))
                out.append(self._word(self.memref.DimOp(tensor, axis.result).result))
        return out

    def _bind(self, op: Any) -> None:
        tensor = op.operands[0]
        self.ids[tensor] = sum(1 for v in self.ids if not self._is_tile(v))
        sizes = self._sizes(tensor)
        words = [*sizes, *self._i64([], MAX_RANK - len(sizes))]
        head = self._i32(self._id(tensor))
        tail = self._i32(self._dtype(tensor), len(sizes))
        self._call("kea_bind", [*head, self._pointer(tensor), *tail, *words])

    def _is_tile(self, value: Any) -> bool:
        return self.ir.MemRefType(value.type).memory_space is not None

    def _view(self, op: Any) -> None:
        """Pointer arithmetic, and a descriptor of the remaining dimensions."""
        tensor, *at = op.operands
        sizes = self._sizes(tensor)
        offset = self._i64([0])[0]
        for d, size in enumerate(sizes):
            offset = self.arith.MulIOp(offset, size).result
            if d < len(at):
                offset = self.arith.AddIOp(offset, self._word(at[d])).result
        width = self._call("kea_dtype_bytes", self._i32(self._dtype(tensor)), self.i64)
        address = self.arith.AddIOp(
            self._pointer(tensor), self.arith.MulIOp(offset, width).result
        ).result
        op.results[0].replace_all_uses_with(
            self._descriptor(op.results[0].type, address, sizes[len(at) :])
        )

    def _descriptor(self, kind: Any, address: Any, sizes: Sequence[Any]) -> Any:
        pointer = self.ir.Type.parse("!llvm.ptr")
        rank = len(sizes)
        arrays = f", array<{rank} x i64>, array<{rank} x i64>" if rank else ""
        struct = self.ir.Type.parse(f"!llvm.struct<(ptr, ptr, i64{arrays})>")
        to = self.llvm.IntToPtrOp(pointer, address).result
        value = self.llvm.UndefOp(struct).result

        def put(piece: Any, *where: int) -> None:
            nonlocal value
            position = self.ir.DenseI64ArrayAttr.get(list(where))
            value = self.llvm.InsertValueOp(value, piece, position).result

        put(to, 0)
        put(to, 1)
        put(self._i64([0])[0], 2)
        step = self._i64([1])[0]
        for d in reversed(range(rank)):
            put(sizes[d], 3, d)
            put(step, 4, d)
            step = self.arith.MulIOp(step, sizes[d]).result
        cast = self.ir.Operation.create(
            "builtin.unrealized_conversion_cast", results=[kind], operands=[value]
        )
        return cast.results[0]

    def _initialise(self, op: Any) -> None:
        kind = self.code("accumulate", self._name(op, "fn"))
        self._call("kea_initialise", self._i32(self._id(op.operands[0]), kind))

    def _buffer(self, op: Any) -> None:
        sizes = self._i64([self._int(op, "offset"), self._int(op, "bytes")])
        head, tail = self._i32(self._int(op, "id")), self._i32(self._int(op, "copies"))
        self._call("kea_buffer", [*head, *sizes, *tail])

    def _declare_tile(self, tile: Any, buffer: int, control: int) -> None:
        self.ids[tile] = sum(1 for v in self.ids if self._is_tile(v))
        self.buffer_of[tile] = (buffer, control)
        shape = list(self.ir.MemRefType(tile.type).shape)
        head = self._i32(self._id(tile), buffer, self._dtype(tile), control, len(shape))
        self._call("kea_tile", [*head, *self._i64(shape, MAX_RANK)])

    def _tile(self, op: Any) -> None:
        control = int(str(op.attributes["control"]) in ("true", "1"))
        self._declare_tile(op.results[0], self._int(op, "buffer"), control)

    def _reshape(self, op: Any) -> None:
        self._declare_tile(op.results[0], *self.buffer_of[op.operands[0]])

    def _instance(self, op: Any) -> None:
        self._call("kea_instance", [self._word(v) for v in op.operands])

    def _loop_step(self, op: Any) -> None:
        self._call("kea_loop_step", [])

    # ---- memory ------------------------------------------------------------------------------

    def _access(self, op: Any, kind: str, pad: Sequence[Any]) -> None:
        (tile,), (tensor,), bases, limits, *indices = self._segments(op)
        steps = list(self.ir.DenseI64ArrayAttr(op.attributes["steps"]))
        rank = len(limits)
        for d, base in enumerate(bases):
            row = steps[d * rank : (d + 1) * rank]
            index = self._i32(self._id(indices[d][0]) if indices[d] else -1)
            words = self._i64(row, MAX_RANK)
            self._call("kea_coord", [*self._i32(d), self._word(base), *index, *words])
        for r, limit in enumerate(limits):
            self._call("kea_limit", [*self._i32(r), self._word(limit)])
        ids = self._i32(self.code("accumulate", kind), self._id(tile), self._id(tensor))
        self._call("kea_access", [*ids, *pad])

    def _load(self, op: Any) -> None:
        self._access(op, "load", self._number(op, "pad"))

    def _store(self, op: Any) -> None:
        self._access(op, "store", [self._constant("f64", 0.0), *self._i64([0])])

    def _accumulate(self, op: Any) -> None:
        pad = [self._constant("f64", 0.0), *self._i64([0])]
        self._access(op, self._name(op, "fn"), pad)

    def _read(self, op: Any) -> None:
        value = self._call("kea_read", self._i32(self._id(op.operands[0])), self.i64)
        index = self.arith.IndexCastOp(self.index, value).result
        op.results[0].replace_all_uses_with(index)

    # ---- commands ----------------------------------------------------------------------------

    def _tiles(self, op: Any) -> list[Any]:
        return self._i32(*[self._id(v) for v in op.operands])

    def _fill(self, op: Any) -> None:
        self._call("kea_fill", [*self._tiles(op), *self._number(op, "value")])

    def _iota(self, op: Any) -> None:
        dst, base = op.operands
        step = self._i64([self._int(op, "step")])
        self._call("kea_iota", [*self._i32(self._id(dst)), self._word(base), *step])

    def _unary(self, op: Any) -> None:
        code = self.code("unary", self._name(op, "fn"))
        self._call("kea_unary", [*self._i32(code), *self._tiles(op)])

    def _binary(self, op: Any) -> None:
        code = self.code("binary", self._name(op, "fn"))
        self._call("kea_binary", [*self._i32(code), *self._tiles(op)])

    def _cmp(self, op: Any) -> None:
        code = self.code("cmp", self._name(op, "pred"))
        self._call("kea_cmp", [*self._i32(code), *self._tiles(op)])

    def _select(self, op: Any) -> None:
        self._call("kea_select", self._tiles(op))

    def _cast(self, op: Any) -> None:
        self._call("kea_copy", self._tiles(op))

    _broadcast = _cast

    def _reduce(self, op: Any) -> None:
        code = self.code("reduce", self._name(op, "fn"))
        dim = self._i32(self._int(op, "dim"))
        self._call("kea_reduce", [*self._i32(code), *self._tiles(op), *dim])

    def _scan(self, op: Any) -> None:
        code = self.code("reduce", self._name(op, "fn"))
        reverse = int(str(op.attributes["reverse"]) in ("true", "1"))
        tail = self._i32(self._int(op, "dim"), reverse)
        self._call("kea_scan", [*self._i32(code), *self._tiles(op), *tail])

    def _permute(self, op: Any) -> None:
        order = list(self.ir.DenseI64ArrayAttr(op.attributes["order"]))
        self._call("kea_permute", [*self._tiles(op), *self._i64(order, MAX_RANK)])

    def _dot(self, op: Any) -> None:
        precision = self.code("precision", self._name(op, "precision"))
        accumulate = int(str(op.attributes["accumulate"]) in ("true", "1"))
        self._call("kea_dot", [*self._tiles(op), *self._i32(precision, accumulate)])


def lower_to_calls(module: Any, code: Code) -> None:
    """Rewrite every ``kea`` operation of a verified module into calls, in place."""
    bindings = adapter.ir()
    with module.context, bindings.Location.unknown():
        RuntimeCalls(module, code).run()
