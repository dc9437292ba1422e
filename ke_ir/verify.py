"""The verifier: names, types, shapes and the rules that can be decided without running.

``verify(module)`` returns every diagnostic it finds; ``check(module)`` raises them.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from ke_ir.diagnostics import Diagnostic, IRError, Loc, Reporter, TooManyErrors, near
from ke_ir.ir import DimDecl, Kernel, Module, OpDef, Program, Signature
from ke_ir.verify_kernel import KernelVerifier
from ke_ir.verify_op import verify_op
from ke_ir.verify_program import verify_program
from ke_ir.verify_size import MAX_SIZE, check_shape, checked_size


def verify(module: Module) -> tuple[Diagnostic, ...]:
    """All that is wrong with a module, in the order of its items; empty if nothing is.

    Stops after ``MAX_ERRORS`` diagnostics.
    """
    report = Reporter(module.source, module.file)
    with suppress(TooManyErrors):
        _names(module, report)
        _items(module, report)
    return tuple(report.found)


def _items(module: Module, report: Reporter) -> None:
    for item in module.items:
        before = len(report.found)
        if isinstance(item, Signature):
            verify_signature(item, report)
            if len(report.found) > before:
                continue  # everything below would repeat the same complaint
        if isinstance(item, OpDef):
            verify_op(item, report)
        elif isinstance(item, Kernel):
            KernelVerifier(item, report).run()
            _agrees_with_op(item, module, report)
        elif isinstance(item, Program):
            verify_program(item, module, report)
            _agrees_with_op(item, module, report)
        else:
            known = (*module.kernels, *(i.name for i in module.items if isinstance(i, Program)))
            if item.kernel not in known and item.kernel not in module.ops:
                report.error("unknown-kernel", f"there is no kernel @{item.kernel} to tune",
                             item.loc, hint=near(item.kernel, known))  # fmt: skip


def check(module: Module) -> Module:
    """The module itself if it verifies. Raises IRError with all diagnostics if not."""
    if found := verify(module):
        raise IRError(found)
    return module


def _names(module: Module, report: Reporter) -> None:
    seen: set[tuple[str, str]] = set()
    for i in module.items:
        if not isinstance(i, Signature):
            continue
        space = "op" if isinstance(i, OpDef) else "kernel"
        if (space, i.name) in seen:
            word = "op" if space == "op" else "kernel or program"
            report.error("duplicate", f"there are two {word}s @{i.name}", _loc(i),
                         hint="rename one")  # fmt: skip
        seen.add((space, i.name))


def _loc(i: Signature) -> Loc | None:
    return getattr(i, "loc", None)


def verify_signature(s: Signature, report: Reporter) -> None:
    """Dims and tensor arguments of an op, kernel or program."""
    sizes: dict[str, int] = {}
    for d in s.dims:
        if d.name in sizes:
            report.error("duplicate", f"dim `{d.name}` is declared twice", d.loc)
            continue
        value = _dim_size(d, sizes, report)
        sizes[d.name] = 1 if value is None else value
    if not s.outputs:
        report.error("no-output", f"@{s.name} has no output", _loc(s), ["at least one output"])
    names: set[str] = set()
    for p in (*s.inputs, *s.outputs):
        if p.name in names:
            report.error("duplicate", f"two tensors are named `{p.name}`", p.loc, hint="rename one")
        names.add(p.name)
        if p.name in sizes:
            report.error("duplicate", f"`{p.name}` is both a tensor and a dim", p.loc)
        check_shape(p.name, p.type.shape, sizes, p.loc, report)


def _dim_size(d: DimDecl, known: dict[str, int], report: Reporter) -> int | None:
    size = checked_size(d.size, known, d.loc, report)
    if size is None:
        return None
    if d.low is not None and d.high is not None:
        if not 1 <= d.low <= d.high:
            report.error("dim-range", f"dim `{d.name}` has the range {d.low}..{d.high}", d.loc,
                         ["1 <= low <= high"])  # fmt: skip
        elif not d.low <= size <= d.high:
            report.error("dim-range", f"the default {size} of dim `{d.name}` is out of its range",
                         d.loc, [f"{d.low} to {d.high}"])  # fmt: skip
    if not 1 <= size < MAX_SIZE:
        report.error("size", f"dim `{d.name}` has size {size}", d.loc,
                     [f"1 to {MAX_SIZE - 1}"])  # fmt: skip
        return None
    return size


def _agrees_with_op(item: Kernel | Program, module: Module, report: Reporter) -> None:
    """A kernel of an op's name must have its arguments and dims."""
    op = module.ops.get(item.name)
    if op is None:
        return
    for what, mine, theirs in (
        ("inputs", item.inputs, op.inputs), ("outputs", item.outputs, op.outputs),
    ):  # fmt: skip
        if mine != theirs:
            report.error(
                "op-mismatch", f"the {what} of @{item.name} are not those of its op", item.loc,
                [_params(theirs)],
            )  # fmt: skip
    if item.dims != op.dims:
        report.error("op-mismatch", f"the dims of @{item.name} are not those of its op", item.loc,
                     hint="leave them out, and they are the op's")  # fmt: skip


def _params(ps: Iterable[object]) -> str:
    return ", ".join(f"{p.name}: {p.type}" for p in ps)  # type: ignore[attr-defined]
