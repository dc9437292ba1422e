"""The Python functions around the kernels: the launcher, and ``prepare`` for a ``once`` section."""

from __future__ import annotations

import keyword
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import reduce

from ke_ir.expr import Bin, Expr, Num, dims_of, evaluate_int, replace_dims
from ke_ir.ir import (
    Kernel,
    KernelCall,
    LoopVar,
    Once,
    Param,
    Program,
    ProgramStmt,
    Repeat,
    Temp,
    View,
    call_dims,
    program_statements,
    statements,
    tensors_of_calls,
)
from ke_ir.ops.memory import Accumulate
from ke_ir.types import DType, TensorType
from lowering.triton.bounds import Bounds
from lowering.triton.context import span
from lowering.triton.helpers import is_helper
from lowering.triton.kernel import LoweredKernel
from lowering.triton.sizes import SizeText
from lowering.triton.temporaries import Plan, lifetimes, plan
from lowering.triton.values import Carriers, identity, literal
from lowering.triton.writer import WIDTH, Names, Writer, call

_HELPERS = {
    "_check", "_current", "_compiled", "_interpreted", "_launch", "_launcher", "_part", "_rows",
    "_address", "_LAUNCHES", "_COMPILED", "_DTYPES",
}  # fmt: skip
_USED = {
    "torch", "triton", "tl", "reference", "prepare", "min", "max", "print", "zip", "tuple", "range",
    "isinstance", "callable", "int", "type", *_HELPERS, *keyword.kwlist,
}  # fmt: skip


def function_name(program: str) -> str:
    """The launcher's name: the program's, unless the file needs that for something else."""
    return f"{program}_" if program in _USED or is_helper(program) else program


class Launcher:
    """Writes the launcher of a program. ``kernels`` gives the lowered kernel of every call.

    ``alike`` names those whose launches differ in nothing but the tensors' addresses.
    """

    def __init__(
        self,
        program: Program,
        kernels: Mapping[int, LoweredKernel],
        alike: Set[str],
        carriers: Carriers,
        bounds: Bounds,
        units: int,
    ) -> None:
        self.program, self.kernels, self.carriers = program, kernels, carriers
        self.bounds, self.units, self.alike = bounds, units, alike
        mine = {"prepare", "prepared", "config", "meta", "grid", *_HELPERS}
        loops = {s.var for s in program_statements(program.body) if isinstance(s, Repeat)}
        names = Names({function_name(program.name), *mine, *loops})
        self.names = names
        self.device, self.on = names.new("device"), names.new("on")
        self.shared = names.new("memory")  # of the temporaries
        self.types = {**program.tensors, **program.temps}
        self.once = [s for s in program.body if isinstance(s, Once)]
        self.prepared = self._prepared()
        self.memory = self._planned()
        self.launches: dict[str, str] = {}  # of kernels that loops launch
        self.rows: dict[str, str] = {}  # of tensors taken apart around the statement at hand
        self.sizes = SizeText(program, bounds, names, has_out=True)
        self.tensor_names = {**self.sizes.tensors, **{n: names.new(n) for n in program.temps}}
        self.out = Writer()

    # -- functions -----------------------------------------------------------------------------
    def functions(self) -> list[str]:
        """``prepare`` if there is a ``once`` section, and the launcher."""
        out = [self._prepare()] if self.once else []
        return [*out, self._launcher()]

    def _prepared(self) -> list[str]:
        """Temporaries that ``once`` sections fill."""
        body = [c for s in self.once for c in program_statements(s.body)]
        calls = [c for c in body if isinstance(c, KernelCall)]
        return list(dict.fromkeys(v.tensor for c in calls for v in c.outs))

    def _prepare(self) -> str:
        self.out, self.sizes.used = Writer(), set()
        read = {n for s in self.once for n in tensors_of_calls(s)}
        self._begin([x for x in self.program.inputs if x.name in read], has_out=False)
        self._current(self.once)
        for name in self.prepared:
            self._allocate(name, self.program.temps[name])
        for s in self.once:
            self._body([x for x in s.body if not isinstance(x, Temp)])
        results = ", ".join(self.tensor_names[n] for n in self.prepared)
        self.out.line(f"return ({results},)")
        args = ", ".join(self.tensor_names[p.name] for p in self.program.inputs)
        doc = f'    """What is computed once per set of weights: {results}."""'
        return "\n".join([f"def prepare({args}):", doc, *self._sizes(), self.out.render()])

    def _launcher(self) -> str:
        self.out, self.sizes.used = Writer(), set()
        p = self.program
        self._begin(p.inputs, has_out=True)
        self._outputs()
        inputs = ", ".join(self.tensor_names[x.name] for x in p.inputs)
        if self.prepared:
            self._take_prepared(inputs)
        body = [s for s in p.body if not isinstance(s, Once)]
        self._current(body)
        if self.memory.offsets:
            text = f"torch.empty({self.memory.bytes}, dtype=torch.uint8, device={self.device})"
            self.out.line(f"{self.shared} = {text}")
        self._in_turn([s for s in body if not (isinstance(s, Temp) and s.name in self.prepared)])
        self.out.line(f"return {', '.join(self.tensor_names[x.name] for x in p.outputs)}")
        extra = "out=None, prepared=None" if self.prepared else "out=None"
        head = call(f"def {function_name(p.name)}", [*filter(None, [inputs]), "*", extra], WIDTH)
        sizes = self._sizes()
        return "\n".join([f"{head}:", self._doc(bool(self.prepared)), *sizes, self.out.render()])

    def _begin(self, inputs: Sequence[Param], has_out: bool) -> None:
        """The device, and a look at what is given."""
        if self.program.inputs:
            device = f"{self.tensor_names[self.program.inputs[0].name]}.device"
        else:
            device = "torch.get_default_device()"
            if has_out:
                device += " if out is None else out[0].device"
        self.out.line(f"{self.device} = {device}")
        for x in inputs:
            self._check(x.name, x.type)

    def _check(self, name: str, t: TensorType) -> None:
        shape, dtype = self._shape(t.shape), self.carriers.torch(t.dtype)
        given = f"{self.tensor_names[name]}, {shape}, {dtype}, {self.device}"
        self.out.line(f'_check("{name}", {given})')

    def _current(self, body: Sequence[ProgramStmt]) -> None:
        """Device and stream of the launches that need not be told by Triton."""
        calls = [c for s in body for c in program_statements((s,)) if isinstance(c, KernelCall)]
        if any(self.kernels[id(c)].name in self.alike for c in calls):
            self.out.line(f"{self.on} = _current({self.device})")

    def _take_prepared(self, inputs: str) -> None:
        names = ", ".join(self.tensor_names[n] for n in self.prepared)
        self.out.line(f"({names},) = prepare({inputs}) if prepared is None else prepared")
        for name in self.prepared:
            self._check(name, self.program.temps[name])

    def _doc(self, prepares: bool) -> str:
        gives = ", ".join(f"{x.name}: {x.type}" for x in self.program.outputs)
        lines = [f'    """{gives}']
        lines += ["", "    ``out`` takes preallocated outputs, as a tuple."]
        if prepares:
            lines += ["    ``prepared`` takes what ``prepare`` returned for the same weights."]
        return "\n".join([*lines, '    """'])

    def _outputs(self) -> None:
        self.out.line("if out is None:")
        with self.out.indented():
            for x in self.program.outputs:
                self._allocate(x.name, x.type)
        names = [self.tensor_names[x.name] for x in self.program.outputs]
        self.out.line("else:")
        with self.out.indented():
            target = f"({names[0]},)" if len(names) == 1 else ", ".join(names)
            self.out.line(f"{target} = out")
            for x in self.program.outputs:
                self._check(x.name, x.type)

    def _allocate(self, name: str, t: TensorType) -> None:
        dtype = self.carriers.torch(t.dtype)
        text = f"torch.empty({self._shape(t.shape)}, dtype={dtype}, device={self.device})"
        self.out.line(f"{self.tensor_names[name]} = {text}")

    def _shape(self, shape: Iterable[Expr]) -> str:
        parts = [self._integer(e) for e in shape]
        return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"

    def _integer(self, e: Expr) -> str:
        return self.sizes.text(e)

    def _sizes(self) -> list[str]:
        return [f"    {line}" for line in self.sizes.lines(checked=True)]

    # -- temporaries ---------------------------------------------------------------------------
    def _planned(self) -> Plan:
        """Temporaries share one piece of memory if all launches take addresses.

        Those of a ``once`` section stay tensors, as do those that are initialised.
        """
        p = self.program
        if any(d.is_range for d in p.dims) or {k.name for k in self.kernels.values()} - self.alike:
            return Plan()
        own = set(self.prepared)
        for c in p.calls:
            kinds = _accumulated(self.kernels[id(c)].kernel)
            outs = zip(self.kernels[id(c)].kernel.outputs, c.outs, strict=True)
            own |= {v.tensor for x, v in outs if x.name in kinds}
        sizes = {n: self._bytes(t) for n, t in p.temps.items() if n not in own}
        steps = [s for s in p.body if not isinstance(s, Once | Temp)]
        return plan(lifetimes([list(tensors_of_calls(s)) for s in steps], sizes))

    def _bytes(self, t: TensorType, indices: int = 0) -> int:
        """Of a tensor, or of each of its parts."""
        shape = [evaluate_int(e, self.bounds.static) for e in t.shape[indices:]]
        return math.prod(shape) * self.carriers.bytes(t.dtype)

    def _part(self, v: View) -> str:
        """A temporary, or a part of it, where it lies in the memory that they share."""
        t = self.types[v.tensor]
        first: Expr = Num(self.memory.offsets[v.tensor])
        start = first
        if v.indices:
            start = Bin("*", self._row(v), Num(self._bytes(t, len(v.indices))))
            start = start if first == Num(0) else Bin("+", first, start)
        as_bytes = self.carriers.as_bytes(t.dtype)
        dtype = "torch.uint8" if as_bytes else self.carriers.torch(t.dtype)
        shape = self._shape(t.shape[len(v.indices) :])
        return f"_part({self.shared}, {self._integer(start)}, {shape}, {dtype})"

    # -- statements ----------------------------------------------------------------------------
    def _in_turn(self, body: Sequence[ProgramStmt]) -> None:
        """Temporaries that are tensors of their own are there from their first use to their last.

        PyTorch gives their memory to later ones: kernels run in the order of their launches.
        """
        temps = {s.name: s.type for s in body if isinstance(s, Temp)}
        steps = [s for s in body if not isinstance(s, Temp)]
        shared = self.memory.offsets
        used = [
            [n for n in dict.fromkeys(tensors_of_calls(s)) if n in temps or n in shared]
            for s in steps
        ]
        last = {n: i for i, names in enumerate(used) for n in names}
        made: set[str] = set()
        for i, (step, names) in enumerate(zip(steps, used, strict=True)):
            for name in [n for n in names if n not in made]:
                if name in shared:
                    self.out.line(f"{self.tensor_names[name]} = {self._part(View(name, ()))}")
                else:
                    self._allocate(name, temps[name])
            made.update(names)
            self._body([step])
            over = [self.tensor_names[n] for n in names if last[n] == i and n not in shared]
            if over and i + 1 < len(steps):
                self.out.line(f"del {', '.join(over)}")

    def _body(self, body: Iterable[ProgramStmt]) -> None:
        for s in body:
            if isinstance(s, Temp) and s.name not in self.memory.offsets:
                self._allocate(s.name, s.type)
            elif isinstance(s, KernelCall):
                self._call(s)
            elif isinstance(s, Repeat):
                self._repeat(s)

    def _repeat(self, s: Repeat) -> None:
        """Parts of tensors are made once, not anew in each step: that takes as long as a launch."""
        if self._can_hoist(s):
            self._hoisted(s)
            return
        inside = list(program_statements(s.body))
        own = {x.name for x in inside if isinstance(x, Temp)} | self.rows.keys()
        own |= self.memory.offsets.keys()
        views = [v for c in self._calls(s.body) for v in (*c.args, *c.outs)]
        sizes = self.program.sizes({})
        most = 4 * (evaluate_int(s.hi, sizes) - evaluate_int(s.lo, sizes)) + 4
        named = dict.fromkeys(
            v.tensor for v in views if v.indices and v.tensor not in own
            and evaluate_int(self.types[v.tensor].shape[0], sizes) <= most
        )  # fmt: skip
        for name in named:
            self.rows[name] = self.names.new(f"{self.tensor_names[name]}_rows")
            self.out.line(f"{self.rows[name]} = {self.tensor_names[name]}.unbind()")
        self._head(s)
        with self.out.indented():
            self._body(s.body)
        if named:
            self.out.line(f"del {', '.join(self.rows.pop(name) for name in named)}")

    def _head(self, s: Repeat) -> None:
        lo = "" if s.lo == Num(0) else f"{self._integer(s.lo)}, "
        self.out.line(f"for {s.var} in range({lo}{self._integer(s.hi)}):")

    def _calls(self, body: Iterable[ProgramStmt]) -> Iterator[KernelCall]:
        """Calls that nothing is hoisted for."""
        for s in body:
            if isinstance(s, KernelCall):
                yield s
            elif isinstance(s, Repeat) and not self._can_hoist(s):
                yield from self._calls(s.body)

    # -- loops of launches that differ in addresses only ---------------------------------------
    def _can_hoist(self, s: Repeat) -> bool:
        """Whether a loop does nothing but launch kernels whose launches are alike."""
        inside = [x for x in program_statements(s.body) if not isinstance(x, Repeat)]
        return all(
            self._only_launches(x) if isinstance(x, KernelCall)
            else isinstance(x, Temp) and x.name in self.memory.offsets
            for x in inside
        )  # fmt: skip

    def _only_launches(self, s: KernelCall) -> bool:
        k = self.kernels[id(s)]
        guard = self._may_be_empty(k, call_dims(self.program, s, k.kernel))
        return k.name in self.alike and not guard and not _accumulated(k.kernel)

    def _hoisted(self, s: Repeat) -> None:
        """All that is alike is done before the loop, which only launches."""
        calls = [x for x in program_statements(s.body) if isinstance(x, KernelCall)]
        for name, c in {self.kernels[id(c)].name: c for c in calls}.items():
            k = self.kernels[id(c)]
            if name not in self.launches:
                self.launches[name] = self.names.new(f"launch_{k.kernel.name}")
            self._grid(k, call_dims(self.program, c, k.kernel))
            self.out.line(f"{self.launches[name]} = _launcher({self.on}, {name}, grid)")
        views = {(v.tensor, len(v.indices)): v for c in calls for v in (*c.args, *c.outs)}
        self._steps(s, {key: self._place(v) for key, v in views.items()})

    def _place(self, v: View) -> str:
        """The variable that holds where a tensor is, or where each of its parts is."""
        shared = v.tensor in self.memory.offsets
        if shared and not v.indices:
            return self.tensor_names[v.tensor]
        ends = "rows" if v.indices else "address"
        name = self.names.new(f"{self.tensor_names[v.tensor]}_{ends}")
        text = self.tensor_names[v.tensor]
        if not shared:
            text = self._carried(text, self.types[v.tensor].dtype)
        if v.indices:
            shape, dtype = self.types[v.tensor].shape, self.types[v.tensor].dtype
            size = (*shape[len(v.indices) :], Num(self.carriers.bytes(dtype)))
            text = f"{text}, {self._product(shape[: len(v.indices)])}, {self._product(size)}"
        self.out.line(f"{name} = _{ends}({text})")
        return name

    def _product(self, sizes: Iterable[Expr]) -> str:
        factors = [e for e in sizes if e != Num(1)] or [Num(1)]
        return self._integer(reduce(lambda a, b: Bin("*", a, b), factors))

    def _steps(self, s: Repeat, places: Mapping[tuple[str, int], str]) -> None:
        """``places`` has the variable for each tensor with so many indices."""
        self._head(s)
        with self.out.indented():
            for x in s.body:
                if isinstance(x, Repeat):
                    self._steps(x, places)
                elif isinstance(x, KernelCall):
                    args = []
                    for v in (*x.args, *x.outs):
                        place = places[v.tensor, len(v.indices)]
                        row = f"[{self._integer(self._row(v))}]" if v.indices else ""
                        args.append(place + row)
                    launch = self.launches[self.kernels[id(x)].name]
                    self.out.line(call(launch, args, WIDTH - 4 * self.out.depth))

    def _row(self, v: View) -> Expr:
        """The number of a part among all parts of its size."""
        row = v.indices[0]
        for i, size in zip(v.indices[1:], self.types[v.tensor].shape[1:], strict=False):
            row = Bin("+", Bin("*", row, size), i)
        return row

    # -- launches ------------------------------------------------------------------------------
    def _view(self, v: View) -> str:
        text, indices = self.tensor_names[v.tensor], [self._integer(i) for i in v.indices]
        if indices and v.tensor in self.rows:
            text = f"{self.rows[v.tensor]}[{indices.pop(0)}]"
        return f"{text}[{', '.join(indices)}]" if indices else text

    def _argument(self, v: View) -> str:
        if v.tensor in self.memory.offsets:
            return self._part(v) if v.indices else self.tensor_names[v.tensor]
        return self._carried(self._view(v), self.types[v.tensor].dtype)

    def _carried(self, text: str, dtype: DType) -> str:
        """A tensor as its kernels read it."""
        return f"{text}.view(torch.uint8)" if self.carriers.as_bytes(dtype) else text

    def _call(self, s: KernelCall) -> None:
        k = self.kernels[id(s)]
        sizes = call_dims(self.program, s, k.kernel)
        args = [self._argument(v) for v in (*s.args, *s.outs)]
        self._initialise(s, k.kernel)
        args += [self._integer(sizes[d]) for d in k.runtime]
        guard = self._may_be_empty(k, sizes)
        if guard:
            self.out.line(f"if {guard}:")
            self.out.depth += 1
        self._launch(k, args, sizes)
        if guard:
            self.out.depth -= 1

    def _launch(self, k: LoweredKernel, args: Sequence[str], sizes: Mapping[str, Expr]) -> None:
        if k.name in self.alike:
            launch, args = "_launch", [self.on, k.name, "grid", *args]
        else:
            self.out.line(f'config = KERNELS["{k.name}"]')
            launch = f"{k.name}[grid]"
            args = [*args, '**config["constexprs"]', '**config["options"]']
        self._grid(k, sizes)
        self.out.line(call(launch, args, WIDTH - 4 * self.out.depth))

    def _grid(self, k: LoweredKernel, sizes: Mapping[str, Expr]) -> None:
        cells = " * ".join(self._count(k, v, sizes) for v in k.grid)
        if k.persistent:
            cells = f"min({self.units}, {cells})"
        self.out.line(f"grid = {'lambda meta: ' if 'meta[' in cells else ''}({cells},)")

    def _count(self, k: LoweredKernel, v: LoopVar, sizes: Mapping[str, Expr]) -> str:
        indices = replace_dims(span(v), sizes)
        if v.tile is None:
            text = self._integer(indices)
            return text if text.isidentifier() or text.isdigit() else f"({text})"
        return f'triton.cdiv({self._integer(indices)}, meta["{k.blocks[v.name]}"])'

    def _may_be_empty(self, k: LoweredKernel, sizes: Mapping[str, Expr]) -> str:
        """The condition under which a grid that may be empty is launched."""
        doubtful = []
        for v in k.grid:
            indices = replace_dims(span(v), sizes)
            exact = self.bounds.exact(indices)
            if exact is None or self.bounds.smallest(exact) < 1:
                doubtful.append(f"{self._integer(indices)} > 0")
        return " and ".join(dict.fromkeys(doubtful))

    def _initialise(self, s: KernelCall, kernel: Kernel) -> None:
        """Outputs that are accumulated into start from the identity."""
        kinds = _accumulated(kernel)
        for p, v in zip(kernel.outputs, s.outs, strict=True):
            if p.name in kinds:
                start = literal(identity(kinds[p.name], p.type.dtype), p.type.dtype)
                self.out.line(f"{self._view(v)}.fill_({start})")


def _accumulated(kernel: Kernel) -> dict[str, str]:
    """Outputs that a kernel accumulates into, and how."""
    return {x.tensor: x.kind for x in statements(kernel.body) if isinstance(x, Accumulate)}


def grid_at(k: LoweredKernel, sizes: Mapping[str, int], units: int) -> list[int]:
    """The launch grid at these sizes of the kernel's dims."""
    cells = math.prod(-(-evaluate_int(span(v), sizes) // v.step) for v in k.grid)
    return [min(cells, units) if k.persistent else cells, 1, 1]


def unaligned(
    program: Program, s: KernelCall, kernel: Kernel, static: Mapping[str, int]
) -> set[str]:
    """Parameters that this call gives a part of a tensor which may not start at 16 bytes."""
    tensors = {**program.tensors, **program.temps}
    out = set()
    for p, v in zip((*kernel.inputs, *kernel.outputs), (*s.args, *s.outs), strict=True):
        size = p.type.dtype.bytes
        for e in tensors[v.tensor].shape[len(v.indices) :]:
            size *= evaluate_int(e, static) if dims_of(e) <= set(static) else 1
        if v.indices and size % 16:
            out.add(p.name)
    return out
