"""PyTorch modules and functions to an ``op``, through ``torch.export`` and its decompositions."""

from __future__ import annotations

import contextlib
import inspect
import operator
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ke_ir.diagnostics import Diagnostic
from ke_ir.expr import Expr, Num, Range, Reduce, Ref, Var, rewrite, walk
from ke_ir.importers.graph import Builder, Draw, Value, constant
from ke_ir.importers.registry import Handler, Layout, Node, Unsupported, handlers
from ke_ir.importers.sizes import DynamicDim, Symbols, dynamic_shapes
from ke_ir.index_maps import equal
from ke_ir.ir import Equation, Module, OpDef, Param
from ke_ir.types import DType, TensorType
from ke_ir.verify import check


class ImportFailure(Exception):
    """What kept a program from being imported: all that is known, at once."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__("\n".join(d.render() for d in diagnostics))
        self.diagnostics = tuple(diagnostics)


@dataclass(frozen=True)
class Argument:
    """Where an input of the op comes from.

    ``source`` is ``input`` (the ``position``-th tensor among the module's inputs, counted in the
    order of its flattened arguments), ``random`` (the ``position``-th ``draw`` of the graph), or
    ``parameter``, ``buffer`` or ``constant``; for these ``tensor`` is the ``torch.Tensor`` and
    ``path`` its name in the module.
    """

    name: str
    source: str
    position: int = -1
    path: str = ""
    tensor: Any = None
    draw: Draw | None = None


@dataclass(frozen=True)
class Result:
    """What an output of the op is: ``output`` (by position), ``buffer`` or ``input`` (mutated)."""

    name: str
    source: str
    position: int = -1
    path: str = ""


@dataclass(frozen=True)
class Imported:
    """An op, what to call it with, and what it gives.

    ``draws``: how many times the graph draws random numbers, whether or not an output needs them.
    ``tf32``: of the equations of convolutions and recurrent layers, whose products PyTorch by its
    defaults computes in TF32 where a GPU has it, the precision of ``dot`` that computes them so.
    """

    op: OpDef
    arguments: tuple[Argument, ...]
    results: tuple[Result, ...]
    draws: int = 0
    tf32: Mapping[str, str] = field(default_factory=dict)


def import_module(
    module: Any, inputs: Sequence[Any], name: str, dynamic: Sequence[DynamicDim] = ()
) -> Imported:
    """The op of an ``nn.Module`` or function at given example inputs.

    ``inputs`` are its positional arguments; weights and buffers become inputs of the op, mutated
    buffers outputs. ``dynamic`` are the dims whose size is an argument of a run; all others are as
    in the example. Raises ImportFailure with everything that is unsupported.
    """
    return import_program(exported(module, tuple(inputs), dynamic), name, dynamic)


def import_program(program: Any, name: str, dynamic: Sequence[DynamicDim] = ()) -> Imported:
    """The op of an ``ExportedProgram`` from ``exported``. Raises ImportFailure."""
    return _Import(program, name, dynamic).run()


def exported(module: Any, inputs: tuple[Any, ...], dynamic: Sequence[DynamicDim] = ()) -> Any:
    """The ``ExportedProgram``, decomposed down to the operators that have a function in ``aten``.

    Raises ImportFailure where ``torch.export`` fails, as at control flow that depends on data.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        module = _as_module(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            shapes = dynamic_shapes(dynamic, inputs)
        except ValueError as error:
            raise ImportFailure([Diagnostic("dynamic", str(error))]) from None
        try:
            program = torch.export.export(module, inputs, dynamic_shapes=shapes)
            return program.run_decompositions(_decompositions())
        except Exception as bad:
            raise ImportFailure([_export_diagnostic(bad)]) from bad


def _decompositions() -> Any:
    """PyTorch's for all operators that no function here imports."""
    import torch
    from torch._decomp import decomposition_table

    table = torch.export.default_decompositions()
    for overload, rule in decomposition_table.items():
        if overload not in table:
            table[overload] = rule
    for overload in [o for o in table if str(o).removeprefix("aten.") in handlers()]:
        table.pop(overload)
    return table


def _as_module(function: Any) -> Any:
    """A module that calls the function, with the names of its parameters."""
    import torch

    base: Any = torch.nn.Module

    class Function(base):  # type: ignore[misc]
        def forward(self, *args: Any) -> Any:
            return function(*args)

    with contextlib.suppress(TypeError, ValueError):  # builtins have no signature
        parameters = list(inspect.signature(function).parameters.values())
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        forward: Any = Function.forward
        forward.__signature__ = inspect.Signature([own, *parameters])
    return Function()


def _export_diagnostic(bad: BaseException) -> Diagnostic:
    text = str(bad).strip()
    message = next((line.strip() for line in text.splitlines() if line.strip()), repr(bad))
    hint = ""
    if "data-dependent" in text or "GuardOnDataDependent" in type(bad).__name__:
        message = f"control flow depends on the values of a tensor: {message}"
        hint = "write the choice as `torch.where`, or fix the value before the module is made"
    if "Constraints violated" in text:
        why = [x.strip(" -") for x in text.splitlines() if x.strip().startswith("- ")]
        message = "a dim cannot have every size of its range: " + "; ".join(why[:3] or [message])
        hint = "give a narrower range, or leave the dim at the example's size"
    line, file, code = user_line(text)
    return Diagnostic("export", f"{type(bad).__name__}: {message}", line, 1 if line else 0,
                      text=code, file=file, hint=hint)  # fmt: skip


_FRAME = re.compile(r'File "([^"]+)", line (\d+), in [^\n]*\n\s*([^\n]*)')


def user_line(trace: str) -> tuple[int, str, str]:
    """Line, file and text of the innermost frame that is not torch's own; 0 if there is none."""
    frames = [f for f in _FRAME.findall(trace) if "/torch/" not in f[0]]
    if not frames:
        return 0, "", ""
    file, line, code = frames[-1]
    return int(line), file, code


def dtype_of(torch_dtype: Any) -> DType:
    """Raises Unsupported for those that KE-IR does not have."""
    names = {
        "float64": DType.F64, "float32": DType.F32, "float16": DType.F16, "bfloat16": DType.BF16,
        "float8_e4m3fn": DType.F8E4M3, "float8_e5m2": DType.F8E5M2, "int64": DType.I64,
        "int32": DType.I32, "int16": DType.I16, "int8": DType.I8, "uint8": DType.U8,
        "bool": DType.I1,
    }  # fmt: skip
    name = str(torch_dtype).removeprefix("torch.")
    if name not in names:
        raise Unsupported(f"tensors of {name}")
    return names[name]


class _Import:
    """One walk over the graph of an exported program."""

    def __init__(self, program: Any, name: str, dynamic: Sequence[DynamicDim]) -> None:
        self.program, self.op_name = program, name
        self.values: dict[Any, Any] = {}
        self.failures: list[Diagnostic] = []
        self.tf32: dict[str, str] = {}
        self.inputs: list[Param] = []
        self.arguments: list[Argument] = []
        self.symbols = Symbols(dynamic)
        self.builder = Builder(d.name for d in dynamic)

    def run(self) -> Imported:
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self.guarded(node, self.placeholder)
            elif node.op == "call_function":
                self.guarded(node, self.call)
        if self.failures:
            raise ImportFailure(self.failures)
        for position, draw in enumerate(self.builder.draws):
            self.inputs.append(Param(draw.name, TensorType(draw.dtype, draw.shape)))
            self.arguments.append(Argument(draw.name, "random", position, draw=draw))
        outputs, results = self.outputs()
        shapes = {p.name: p.type.shape for p in self.inputs} | {
            n: shape for n, (shape, _) in self.builder.types.items()
        }
        declared = {p.name for p in outputs}
        equations = tuple(tidied(e, shapes, declared) for e in self.builder.equations)
        needed = live(equations, declared)
        used = {n.tensor for e in needed for n in walk(e.rhs) if isinstance(n, Ref)}
        kept = [i for i, p in enumerate(self.inputs) if p.name in used]
        op = OpDef(
            self.op_name, tuple(self.inputs[i] for i in kept), tuple(outputs),
            tuple(self.symbols.declared), needed,
        )  # fmt: skip
        check(Module((op,)))
        arguments = tuple(self.arguments[i] for i in kept)
        targets = {e.target for e in needed}
        tf32 = {t: precision for t, precision in self.tf32.items() if t in targets}
        return Imported(op, arguments, tuple(results), len(self.builder.draws), tf32)

    def guarded(self, node: Any, action: Any) -> None:
        """Collect what is unsupported; of what follows from it, only operators nobody imports."""
        poisoned = any(self.values.get(n, 0) is None for n in node.all_input_nodes)
        self.values[node] = None
        try:
            if node.op == "call_function" and not (
                node.target is operator.getitem or is_size(node) or is_check(node)
            ):
                self.handler(node)
            if not poisoned:
                self.values[node] = action(node)
        except Unsupported as bad:
            line, file, code = user_line(node.meta.get("stack_trace") or "")
            self.failures.append(
                Diagnostic("unsupported", f"{node.target}: {bad}", line, 1 if line else 0,
                           text=code, file=file)
            )  # fmt: skip

    def handler(self, node: Any) -> Handler:
        """The function that imports a call. Raises Unsupported."""
        found = handlers().get(str(node.target).removeprefix("aten."))
        if found is None or not hasattr(node.target, "_schema"):
            raise Unsupported("no function of `ke_ir.importers.aten` imports it")
        return found

    def type_of(self, tensor: Any) -> tuple[tuple[Expr, ...], DType]:
        return tuple(map(self.symbols.size, tensor.shape)), dtype_of(tensor.dtype)

    def placeholder(self, node: Any) -> Any:
        spec = next(s for s in self.program.graph_signature.input_specs
                    if getattr(s.arg, "name", None) == node.name)  # fmt: skip
        kind = spec.kind.name
        value = node.meta.get("val")
        if kind == "TOKEN" or not hasattr(value, "shape"):
            return node.name if value is None else value
        if kind == "USER_INPUT":
            position = sum(a.source == "input" for a in self.arguments)
            self.symbols.input(position, value.shape, [_hint(n) for n in value.shape])
        shape, dtype = self.type_of(value)
        if kind == "USER_INPUT":
            argument = Argument("", "input", position)
        else:
            path = str(spec.target)
            source = {"PARAMETER": "parameter", "BUFFER": "buffer"}.get(kind, "constant")
            tensor = self.program.constants.get(path)
            if tensor is None:
                tensor = self.program.state_dict[path]
            if source == "constant" and tensor.numel() == 1:
                return constant(tensor.item(), dtype, shape)
            argument = Argument("", source, path=path, tensor=tensor.detach())
        name = self.builder.name(re.sub(r"^(p|b|c)_(?=\w)", "", node.name)
                                 if kind != "USER_INPUT" else node.name)  # fmt: skip
        self.inputs.append(Param(name, TensorType(dtype, shape)))
        self.arguments.append(replace(argument, name=name))
        return self.builder.tensor(name, shape, dtype)

    def call(self, node: Any) -> Any:
        if node.target is operator.getitem:
            return self.values[node.args[0]][node.args[1]]
        if is_size(node):
            return self.symbols.size(node.meta["val"])
        if is_check(node):
            return [node.name]
        found = node.meta.get("val")
        tensors = [v for v in (found if isinstance(found, tuple | list) else (found,))
                   if hasattr(v, "shape")]  # fmt: skip
        results = tuple(self.type_of(t) for t in tensors)
        made = self.handler(node)
        before = len(self.builder.equations)
        arguments = self.bound(node)
        layouts = tuple(map(_layout, node.all_input_nodes))
        value = made(Node(short(node.name), self.builder, results, layouts), *arguments)
        precision = _tf32(str(node.target), arguments)
        if precision:
            new = (e.target for e in self.builder.equations[before:])
            self.tf32 |= dict.fromkeys(new, precision)
        return value

    def bound(self, node: Any) -> list[Any]:
        """The arguments in the order of the schema, defaults filled in, tensors as values."""

        def value(x: Any) -> Any:
            if isinstance(x, list | tuple):
                return [value(y) for y in x]
            try:
                return self.values.get(x, x)
            except TypeError:
                return x

        out = []
        for i, a in enumerate(node.target._schema.arguments):
            given = node.args[i] if i < len(node.args) else node.kwargs.get(a.name, a.default_value)
            out.append(value(given))
        names = [a.name for a in node.target._schema.arguments]
        return [x for x, n in zip(out, names, strict=True)
                if n not in ("layout", "device", "pin_memory", "memory_format")]  # fmt: skip

    def outputs(self) -> tuple[list[Param], list[Result]]:
        signature = self.program.graph_signature
        (node,) = (n for n in self.program.graph.nodes if n.op == "output")
        outputs: list[Param] = []
        results: list[Result] = []
        position = 0
        for spec, source in zip(signature.output_specs, node.args[0], strict=True):
            if spec.kind.name == "BUFFER_MUTATION":
                path = str(spec.target)
                result = Result("", "buffer", path=path)
                wanted = path.replace(".", "_") + "_out"
            elif spec.kind.name == "USER_INPUT_MUTATION":
                result = Result("", "input", path=str(spec.target))
                wanted = f"{spec.target}_out"
            elif spec.kind.name == "USER_OUTPUT":
                result = Result("", "output", position)
                position += 1
                wanted = "out"
            elif spec.kind.name == "TOKEN":
                continue  # the order of effects
            else:
                raise ImportFailure([Diagnostic(
                    "unsupported", f"an output of the kind {spec.kind.name.lower()}")])  # fmt: skip
            v = self.values.get(source, source) if source is not None else None
            if not isinstance(v, Value):
                continue  # a number or None, which nothing computes
            if v.tensor not in self.builder.types or v.tensor in {p.name for p in outputs}:
                v = self.builder.define(wanted, v.shape, v.dtype, v.at)
            outputs.append(Param(v.tensor, TensorType(v.dtype, v.shape)))
            results.append(replace(result, name=v.tensor))
        if not outputs:
            raise ImportFailure([Diagnostic("export", "nothing that it gives is a tensor")])
        return outputs, results


def is_size(node: Any) -> bool:
    """True for a node that computes a size: its value is a symbol, or a number made of symbols."""
    return type(node.meta.get("val")).__name__ == "SymInt"


def is_check(node: Any) -> bool:
    """True for a node that only raises, where a matrix has no factors; an op says no errors."""
    return str(node.target) == "with_effects" and "_linalg_check_errors" in str(node.args[1])


def _layout(source: Any) -> Layout | None:
    """Of a node's tensor; None for other values, and for strides that are symbols."""
    x = source.meta.get("val")
    if not hasattr(x, "untyped_storage"):
        return None
    if not all(isinstance(n, int) for n in (*x.stride(), x.storage_offset())):
        return None
    # The storage of an example that is a view has a symbol for its size.
    elements = _hint(x.untyped_storage().nbytes()) // x.element_size()
    return Layout(tuple(x.stride()), x.storage_offset(), elements)


def _hint(n: Any) -> int:
    """A size in the example."""
    return n if isinstance(n, int) else int(n.node.hint)


_RECURRENT = ("aten.lstm.input", "aten.gru.input", "aten.rnn_tanh.input", "aten.rnn_relu.input")


def _tf32(operator_: str, arguments: Sequence[Any]) -> str:
    """How cuDNN rounds what PyTorch gives to it to TF32 (seen on an H100); empty for the rest.

    Its kernels for windows round ties away from zero. Where it converts the layout first, for
    windows of one element and transposed convolutions, the conversion rounds ties to even.
    """
    if operator_ in _RECURRENT:
        return "tf32"
    if operator_ != "aten.convolution.default":
        return ""
    weight, transposed = arguments[1], arguments[6]
    even = transposed or all(n == Num(1) for n in weight.shape[2:])
    return "tf32_even" if even else "tf32"


_LONG = {
    "native_batch_norm_legit_functional": "batch_norm", "native_batch_norm_legit": "batch_norm",
    "native_batch_norm_legit_no_training": "batch_norm", "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm", "convolution": "conv",
    "scaled_dot_product_attention": "attention", "linalg_vector_norm": "norm",
    "max_pool2d_with_indices": "max_pool2d", "max_pool3d_with_indices": "max_pool3d",
}  # fmt: skip


def short(name: str) -> str:
    """A node's name without what only says which variant of an operator it is."""
    base, number = re.fullmatch(r"_*(.*?)(_\d+)?", name).groups()  # type: ignore[union-attr]
    return _LONG.get(base, base) + (number or "")


def live(equations: Sequence[Equation], outputs: set[str]) -> tuple[Equation, ...]:
    """Those that an output needs. In a recurrence an equation may need one further down."""
    bodies = {e.target: e.rhs for e in equations}
    needed: set[str] = set()
    waiting = set(outputs)
    while waiting:
        name = waiting.pop()
        needed.add(name)
        if name in bodies:
            waiting |= {n.tensor for n in walk(bodies[name]) if isinstance(n, Ref)} - needed
    return tuple(e for e in equations if e.target in needed)


def tidied(e: Equation, shapes: Mapping[str, tuple[Expr, ...]], outputs: set[str]) -> Equation:
    """The equation without ranges that a reader of the subscripts knows."""
    plain: dict[str, list[Expr]] = {}
    for n in walk(e.rhs):
        if isinstance(n, Ref) and n.fill is None:
            for i, size in zip(n.indices, shapes[n.tensor], strict=True):
                if isinstance(i, Var):
                    plain.setdefault(i.name, []).append(size)

    def short(r: Range, known: bool) -> Range:
        sizes = plain.get(r.name, [])
        seen = bool(sizes) and r.hi is not None and all(equal(n, r.hi) for n in sizes)
        starts = r.lo is None or r.lo == Num(0)
        return Range(r.name) if starts and (known or seen) else r

    def shorten(n: Expr) -> Expr | None:
        if isinstance(n, Reduce):
            return replace(n, ranges=tuple(short(r, False) for r in n.ranges))
        return None

    ranges = tuple(short(r, e.target in outputs) for r in e.ranges)
    return replace(e, ranges=ranges, rhs=rewrite(e.rhs, shorten))
