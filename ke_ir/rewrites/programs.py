"""Programs as rewrites see them: who makes a temporary, who reads it, and changing calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ke_ir.expr import Dim
from ke_ir.ir import (
    Item,
    Kernel,
    KernelCall,
    Module,
    Once,
    Param,
    Program,
    ProgramStmt,
    Repeat,
    Temp,
    Tuned,
    View,
    call_dims,
    program_statements,
)
from ke_ir.ops import Accumulate, Load, Store
from ke_ir.ops.base import Op
from ke_ir.rewrites.base import NoMatch
from ke_ir.rewrites.names import Renamer, defined_in


@dataclass(frozen=True)
class CallSite:
    """The only call of a kernel in a module, and the statements among which it stands."""

    program: Program
    call: KernelCall
    block: tuple[ProgramStmt, ...]
    kernel: Kernel

    @property
    def position(self) -> int:
        return next(i for i, s in enumerate(self.block) if s is self.call)

    @property
    def reads(self) -> tuple[tuple[str, str], ...]:
        """Argument and tensor of the program, for each input."""
        return tuple((p.name, v.tensor)
                     for p, v in zip(self.kernel.inputs, self.call.args, strict=True))  # fmt: skip

    @property
    def writes(self) -> tuple[tuple[str, str], ...]:
        """Argument and tensor of the program, for each output."""
        return tuple((p.name, v.tensor)
                     for p, v in zip(self.kernel.outputs, self.call.outs, strict=True))  # fmt: skip


def own_programs(module: Module) -> list[Program]:
    """The programs that stand in the module as such."""
    return [i for i in module.items if isinstance(i, Program)]


def blocks(body: tuple[ProgramStmt, ...]) -> Iterator[tuple[ProgramStmt, ...]]:
    yield body
    for s in body:
        if isinstance(s, Repeat | Once):
            yield from blocks(s.body)


def call_site(module: Module, kernel: str) -> CallSite | NoMatch:
    """Where a kernel is called, if that is one place, with whole tensors and its dims' names."""
    k = module.kernels.get(kernel)
    if k is None:
        return NoMatch(f"there is no kernel @{kernel}")
    found = [CallSite(p, c, b, k) for p in own_programs(module) for b in blocks(p.body)
             for c in b if isinstance(c, KernelCall) and c.kernel == kernel]  # fmt: skip
    if len(found) != 1:
        return NoMatch(f"@{kernel} is called {len(found)} times")
    (site,) = found
    if any(v.indices for v in (*site.call.args, *site.call.outs)):
        return NoMatch(f"@{kernel} is called with a part of a tensor")
    for name, size in call_dims(site.program, site.call, k).items():
        if size != Dim(name) and not any(d.name == name and d.is_derived for d in k.dims):
            return NoMatch(f"dim {name} of @{kernel} has another name where it is called")
    return site


def readers(program: Program, tensor: str) -> list[KernelCall]:
    return [c for c in program.calls if any(v.tensor == tensor for v in c.args)]


def is_given(module: Module, kernel: str, tensor: str) -> bool:
    """True if an input of a kernel is the same in every run: an argument, or computed ``once``."""
    for p in own_programs(module):
        held = {q.name for q in p.inputs}
        for s in p.body:
            if isinstance(s, Once):
                held |= {v.tensor for c in s.body if isinstance(c, KernelCall) for v in c.outs}
        for c in p.calls:
            if c.kernel == kernel:
                named = dict(
                    zip((q.name for q in module.kernels[kernel].inputs), c.args, strict=True)
                )
                return named[tensor].tensor in held
    return True


def with_calls(
    module: Module, program: Program, change: Callable[[KernelCall], KernelCall | None],
    kernels: tuple[Kernel, ...] = (), temps: tuple[Temp, ...] = (),
) -> Module:  # fmt: skip
    """The module with a program's calls changed, and kernels replaced or added before it.

    ``change`` gives None for a call that goes. Temporaries that no call names go too, and kernels
    that were only called here; ``temps`` are added.
    """
    new = replace(program, body=(*temps, *_changed(program.body, change)))
    named = {v.tensor for c in new.calls for v in (*c.args, *c.outs)}
    new = replace(new, body=_without_temps(new.body, named))
    return with_program(module, new, kernels)


def with_program(module: Module, new: Program, kernels: tuple[Kernel, ...]) -> Module:
    """The module with a program and kernels in place of those of their names, or added."""
    before = {c.kernel for p in own_programs(module) for c in p.calls}
    others = {c.kernel for p in own_programs(module) if p.name != new.name for c in p.calls}
    called = others | {c.kernel for c in new.calls}
    fresh = {k.name: k for k in kernels}
    out: list[Item] = []
    for i in module.items:
        if isinstance(i, Kernel):
            if i.name in called or i.name not in before:
                out.append(fresh.pop(i.name, i))
        elif isinstance(i, Program) and i.name == new.name:
            out += [k for n, k in fresh.items() if n in called]
            out.append(new)
        elif not (isinstance(i, Tuned) and (i.kernel in {k.name for k in kernels}
                                            or i.kernel in before - called)):  # fmt: skip
            out.append(i)
    return collapsed(Module(tuple(out), file=module.file), new.name)


def _changed(
    body: tuple[ProgramStmt, ...], change: Callable[[KernelCall], KernelCall | None]
) -> tuple[ProgramStmt, ...]:
    out: list[ProgramStmt] = []
    for s in body:
        if isinstance(s, KernelCall):
            got = change(s)
            if got is not None:
                out.append(got)
        elif isinstance(s, Repeat | Once):
            if inner := _changed(s.body, change):
                out.append(replace(s, body=inner))
        else:
            out.append(s)
    return tuple(out)


def _without_temps(body: tuple[ProgramStmt, ...], named: set[str]) -> tuple[ProgramStmt, ...]:
    out: list[ProgramStmt] = []
    for s in body:
        if isinstance(s, Repeat | Once):
            s = replace(s, body=_without_temps(s.body, named))
        if not isinstance(s, Temp) or s.name in named:
            out.append(s)
    return tuple(out)


def collapsed(module: Module, name: str) -> Module:
    """The module with a program of one call on its own arguments as that kernel itself."""
    program = next(p for p in own_programs(module) if p.name == name)
    if len(program.calls) != 1 or len(list(program_statements(program.body))) != 1:
        return module
    site = call_site(module, program.calls[0].kernel)
    if isinstance(site, NoMatch):
        return module
    wanted = [p.name for p in program.outputs]
    if sorted(t for _, t in site.writes) != sorted(wanted) or site.kernel.dims != program.dims:
        return module
    k = replace(
        on_tensors(site.kernel, dict((*site.reads, *site.writes))), name=name,
        inputs=program.inputs, outputs=program.outputs,
    )  # fmt: skip
    items: list[Item] = []
    for i in module.items:
        if isinstance(i, Program) and i.name == name:
            items.append(k)
        elif i is not site.kernel and not (
            isinstance(i, Tuned) and i.kernel in (name, site.kernel.name)
        ):
            items.append(i)
    return Module(tuple(items), file=module.file)


def on_tensors(k: Kernel, names: dict[str, str]) -> Kernel:
    """The kernel with its tensors renamed; values that have one of the new names give way."""
    taken = set(names.values()) | {*k.tensors, *(d.name for d in k.dims)}
    used = set(defined_in(k.body))
    values: dict[str, int | float | bool | str] = {}
    for n in sorted(used & set(names.values())):
        i = 1
        while f"{n}_{i}" in used | taken:
            i += 1
        values[n] = f"{n}_{i}"
        used.add(f"{n}_{i}")

    def params(ps: tuple[Param, ...]) -> tuple[Param, ...]:
        return tuple(replace(p, name=names.get(p.name, p.name)) for p in ps)

    body = _TensorRenamer(values, names).block(k.body)
    return replace(k, inputs=params(k.inputs), outputs=params(k.outputs), body=body)


class _TensorRenamer(Renamer):
    def __init__(
        self, values: dict[str, int | float | bool | str], tensors: dict[str, str]
    ) -> None:
        super().__init__(values, lambda n: str(values.get(n, n)))
        self.tensors = tensors

    def op(self, s: Op) -> Op:
        s = super().op(s)
        if isinstance(s, Load | Store | Accumulate):
            return replace(s, tensor=self.tensors.get(s.tensor, s.tensor))
        return s


def fresh_item(module: Module, hint: str) -> str:
    """A name for a kernel that no item of the module has."""
    taken = {i.name for i in module.items if not isinstance(i, Tuned)}
    names = (hint, *(f"{hint}_{i}" for i in range(1, len(taken) + 2)))
    return next(n for n in names if n not in taken)


def in_sequence(
    module: Module, kernel: str, parts: Sequence[Kernel], temps: Sequence[Temp],
    once: Sequence[Kernel] = (),
) -> Module | NoMatch:  # fmt: skip
    """The module with calls of ``parts`` in place of the one call of a kernel.

    Tensors of the parts have the names of the kernel's arguments, or of ``temps``, whose sizes are
    of the kernel's dims. Kernels of ``once`` are called in a ``once`` section before. A kernel that
    stands alone becomes a program.
    """
    k = module.kernels.get(kernel)
    if k is None:
        return NoMatch(f"there is no kernel @{kernel}")
    if kernel in module.programs and kernel not in {p.name for p in own_programs(module)}:
        program = Program(k.name, k.inputs, k.outputs, k.dims, ())
        views = {p.name: View(p.name) for p in (*k.inputs, *k.outputs)}
        call: KernelCall | None = None
    else:
        site = call_site(module, kernel)
        if isinstance(site, NoMatch):
            return site
        program, call = site.program, site.call
        views = {p: View(t) for p, t in (*site.reads, *site.writes)}
    named: list[Temp] = []
    for t in temps:
        name = _fresh_tensor(program, t.name, [u.name for u in named])
        views[t.name] = View(name)
        named.append(replace(t, name=name))

    def calls(ks: Sequence[Kernel]) -> tuple[KernelCall, ...]:
        return tuple(
            KernelCall(p.name, tuple(views[a.name] for a in p.inputs),
                       tuple(views[a.name] for a in p.outputs)) for p in ks
        )  # fmt: skip

    new: tuple[ProgramStmt, ...] = calls(parts)
    if once:
        new = (Once(calls(once)), *new)
    body = new if call is None else _with_calls(program.body, call, new)
    changed = replace(program, body=(*named, *body))
    if call is None:
        items: list[Item] = []
        for i in module.items:
            if i is k:
                items += [*once, *parts, changed]
            elif not (isinstance(i, Tuned) and i.kernel == kernel):
                items.append(i)
        return Module(tuple(items), file=module.file)
    return with_program(module, changed, (*once, *parts))


def _fresh_tensor(program: Program, hint: str, also: Sequence[str]) -> str:
    taken = {*program.tensors, *program.temps, *also, *(d.name for d in program.dims)}
    name, i = hint, 1
    while name in taken:
        name, i = f"{hint}_{i}", i + 1
    return name


def _with_calls(
    body: tuple[ProgramStmt, ...], call: KernelCall, new: tuple[ProgramStmt, ...]
) -> tuple[ProgramStmt, ...]:
    out: list[ProgramStmt] = []
    for s in body:
        if s is call:
            out += new
        elif isinstance(s, Repeat | Once):
            out.append(replace(s, body=_with_calls(s.body, call, new)))
        else:
            out.append(s)
    return tuple(out)
