"""A whole program as one Python text, in the form that ``docs/generated-triton.md`` describes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from ke_ir.hashing import nameless_hash
from ke_ir.ir import Kernel, Module, OpDef, Param, Program, bind_call, call_dims
from lowering.triton.bounds import Bounds
from lowering.triton.dims import KernelDims, called_with, program_bounds
from lowering.triton.helpers import texts_of
from lowering.triton.kernel import LoweredKernel, lower_kernel
from lowering.triton.launcher import Launcher, function_name, grid_at, unaligned
from lowering.triton.options import TritonOptions
from lowering.triton.values import Carriers, torch_of
from lowering.triton.writer import WIDTH

_LARGE = 1 << 31  # bytes
TEMPLATES = Path(__file__).resolve().parents[2] / "templates" / "triton"


def lower(module: Module, program: Program, dims: Mapping[str, int], options: TritonOptions) -> str:
    """The generated file of a program, for these sizes of its dims.

    Static dims are constants in the text; dims given as a range are read from the arguments, and
    their sizes in ``dims`` only fill ``DIMS``, ``INPUTS`` and ``OUTPUTS``. Raises Unsupported.
    """
    sizes = program.sizes(dims)
    bounds = program_bounds(program.dims, sizes)
    kernels = _Kernels(module, program, sizes, bounds, options)
    carriers = Carriers(options)
    alike = kernels.launched_alike()
    launcher = Launcher(program, kernels.by_call, alike, carriers, bounds, options.units)
    op = module.ops.get(program.name)
    reference, inputs = reference_of(op, op.sizes(dims), carriers) if op else ("", [])
    helpers = dict.fromkeys(h for k in kernels.distinct for h in k.helpers)
    target = "Triton's interpreter" if options.interpret else options.traits.arch
    return _render(
        title=f"{program.name}: {_signature(program)}",
        made_for=target,
        program=function_name(program.name),
        dims=_pairs(sizes),
        inputs=_tensors(program.inputs, sizes),
        outputs=_tensors(program.outputs, sizes),
        kernels=[kernels.described(k) for k in kernels.distinct],
        helpers=texts_of(helpers),
        dtypes=kernels.dtypes(alike),
        functions=launcher.functions(),
        reference=reference,
        random_inputs=inputs,
        single=len(program.outputs) == 1,
    )


def _signature(p: Program) -> str:
    sides = (", ".join(f"{x.name}: {x.type}" for x in side) for side in (p.inputs, p.outputs))
    return " -> ".join(sides)


class _Kernels:
    """The kernels of a program, of which many may be equal but for names, as layers repeat.

    Calls share one if what they call is equal (``nameless_hash``) and its dims are bound alike. The
    text then has the names of the first. A call with parts of tensors that may start anywhere does
    not share with one that has none, which is compiled to read more at once.
    """

    def __init__(
        self,
        module: Module,
        program: Program,
        sizes: Mapping[str, int],
        bounds: Bounds,
        options: TritonOptions,
    ) -> None:
        self.by_call: dict[int, LoweredKernel] = {}
        self.distinct: list[LoweredKernel] = []
        self.unaligned: dict[str, set[str]] = {}
        self.varying: set[str] = set()  # names of kernels with dims that are learnt at launch
        self.large: set[str] = set()  # names of kernels with a tensor of 2 GB or more
        self.grids: dict[str, list[int]] = {}
        made: dict[tuple[str, KernelDims, bool], LoweredKernel] = {}
        called = {s.kernel for s in program.calls}
        hashes = {name: nameless_hash(module.kernels[name]) for name in called}
        for s in program.calls:
            kernel = module.kernels[s.kernel]
            given = called_with(kernel.dims, call_dims(program, s, kernel), bounds)
            aligned = not unaligned(program, s, kernel, bounds.static)
            key = (hashes[s.kernel], given, aligned)
            if key not in made:
                name = self._name(kernel)
                made[key] = lower_kernel(kernel, given, options, name)
                self.distinct.append(made[key])
                if given.ranges:
                    self.varying.add(name)
                bound = bind_call(program, s, kernel, sizes)
                self.grids[name] = grid_at(made[key], bound, options.units)
                tensors = [p.type for p in (*kernel.inputs, *kernel.outputs)]
                if any(math.prod(t.sizes(bound)) * t.dtype.bytes >= _LARGE for t in tensors):
                    self.large.add(name)
            lowered = self.by_call[id(s)] = made[key]
            skipped = self.unaligned.setdefault(lowered.name, set())
            skipped.update(unaligned(program, s, lowered.kernel, bounds.static))

    def _name(self, kernel: Kernel) -> str:
        count = sum(k.kernel.name == kernel.name for k in self.distinct)
        return f"{kernel.name}_kernel" + (f"_{count + 1}" if count else "")

    def launched_alike(self) -> set[str]:
        """Kernels that every launch gives the same grid, and arguments that compile the same.

        To Triton integers differ by being 1 or multiples of 16, and pointers by alignment. On AMD
        it also asks whether a tensor's offsets need more than 32 bits, which no address tells.
        """
        unaligned = {name for name, parts in self.unaligned.items() if parts}
        return {k.name for k in self.distinct} - self.varying - unaligned - self.large

    def dtypes(self, names: Set[str]) -> dict[str, str]:
        """The tensors of these kernels: entries of ``_DTYPES``, as Python text."""
        used = [k.signature.values() for k in self.distinct if k.name in names]
        return {p: torch_of(p) for p in dict.fromkeys(itertools.chain(*used))}

    def described(self, k: LoweredKernel) -> dict[str, str]:
        """A kernel's entry in ``KERNELS``, as Python text."""
        names = dict(zip(k.kernel.tensors, k.signature, strict=False))
        skipped = {names[p] for p in self.unaligned[k.name]}
        return {
            "name": k.name,
            "text": k.text,
            "signature": _pairs(k.signature, 21),
            "constexprs": _pairs(k.static, 22),
            "divisible": _text([n for n in k.divisible if n not in skipped]),
            "options": _pairs(k.options, 19),
            "grid": str(self.grids[k.name]),
        }


def _text(x: Any) -> str:
    """A literal with double quotes, as formatters like it."""
    if isinstance(x, str):
        return f'"{x}"'
    if isinstance(x, list):
        return f"[{', '.join(map(_text, x))}]"
    return repr(x)


def _pairs(d: Mapping[str, Any], column: int = 7) -> str:
    """A dict literal, over several lines if it is long. ``column`` is where it starts."""
    items = [f"{_text(k)}: {_text(v)}" for k, v in d.items()]
    short = "{" + ", ".join(items) + "}"
    if column + len(short) < WIDTH:
        return short
    pad = "    " if column < 10 else " " * 12
    return "{\n" + "".join(f"{pad}{x},\n" for x in items) + pad[4:] + "}"


def _tensors(params: tuple[Param, ...], sizes: Mapping[str, int]) -> str:
    items = [f'"{p.name}": ("{p.type.dtype}", {p.type.sizes(dict(sizes))})' for p in params]
    short = "{" + ", ".join(items) + "}"
    if len(short) < WIDTH - 10:
        return short
    return "{\n" + "".join(f"    {x},\n" for x in items) + "}"


def reference_of(op: OpDef, sizes: Mapping[str, int], carriers: Carriers) -> tuple[str, list[str]]:
    """The text of ``reference()``, and of inputs to try it on. Raises Unsupported."""
    from lowering.triton.random_inputs import random_inputs
    from lowering.triton.reference import Reference
    from lowering.triton.sizes import SizeText
    from lowering.triton.writer import Names

    bounds = program_bounds(op.dims, sizes)
    text = SizeText(op, bounds, Names({"device"}), has_out=False)
    return Reference(op, text, bounds).text(), random_inputs(op, sizes, carriers)


def _render(**values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    return environment.get_template("program.py.j2").render(**values)
