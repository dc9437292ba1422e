"""Canonical text. ``print_module(parse(t))`` is a fixed point, and parses back to the same."""

from __future__ import annotations

from ke_ir.expr import show, show_number, show_range, show_subscripts
from ke_ir.ir import (
    DimDecl,
    Equation,
    For,
    Item,
    Kernel,
    KernelCall,
    LoopVar,
    Module,
    Once,
    OpDef,
    Parallel,
    ProgramStmt,
    Repeat,
    Signature,
    Temp,
    Tuned,
    View,
    Yield,
)
from ke_ir.ops.base import Op, Operand, Piece, Stmt
from ke_ir.parser import inherited_dims

INDENT = "  "


def print_module(m: Module) -> str:
    """The whole file. Kernels leave out dims that they would inherit."""
    return "\n".join(print_item(i, m.items) for i in m.items)


def print_item(i: Item, among: tuple[Item, ...] = ()) -> str:
    """One item; ``among`` are the items of its file, from which dims may be inherited."""
    if isinstance(i, Tuned):
        return print_tuned(i) + "\n"
    lines: list[str]
    if isinstance(i, OpDef):
        lines = [print_signature(i), "{", *(INDENT + print_equation(e) for e in i.equations), "}"]
    else:
        head = print_header(i, among)
        lines = [head, "{"] if "\n" in head else [f"{head} {{"]
        if isinstance(i, Kernel):
            _block(i.body, 1, lines)
        else:
            _program_block(i.body, 1, lines)
        lines.append("}")
    return "\n".join(lines) + "\n"


def print_header(s: Signature, among: tuple[Item, ...]) -> str:
    """The header of an item, without dims that it inherits from one of those items."""
    inherits = not isinstance(s, OpDef) and s.dims == inherited_dims(s, among)  # type: ignore[arg-type]
    return print_signature(s, with_dims=not inherits)


def print_equation(e: Equation) -> str:
    return f"{e.target}[{', '.join(show_range(r) for r in e.ranges)}] = {show(e.rhs)}"


def print_tuned(t: Tuned) -> str:
    knobs = ", ".join(f"{k} = {_knob(v)}" for k, v in t.knobs)
    where = f"{t.target}.{t.arch}" if t.arch else t.target
    return f"tuned @{t.kernel} for {where} {{ {knobs} }}"


def print_yield(s: Stmt) -> str:
    assert isinstance(s, Yield)
    return f"yield {', '.join(map(show_operand, s.values))}"


def _knob(v: int | str | bool) -> str:
    return show_number(v) if isinstance(v, int) else v


def print_signature(s: Signature, with_dims: bool = True) -> str:
    """The header of an op, kernel or program, with its ``dims`` on a second line."""
    word, sigil = ("op", "") if isinstance(s, OpDef) else (
        "kernel" if isinstance(s, Kernel) else "program", "%")  # fmt: skip
    ins = ", ".join(f"{sigil}{p.name}: {p.type}" for p in s.inputs)
    outs = ", ".join(f"{sigil}{p.name}: {p.type}" for p in s.outputs)
    head = f"{word} @{s.name}({ins}) -> ({outs})"
    return f"{head}\ndims {', '.join(map(print_dim, s.dims))}" if s.dims and with_dims else head


def print_dim(d: DimDecl) -> str:
    """As it stands after ``dims``."""
    limits = f" in {d.low}..{d.high}" if d.is_range else ""
    return f"{d.name}{limits} = {show(d.size)}"


def _block(body: tuple[Stmt, ...], depth: int, out: list[str]) -> None:
    pad = INDENT * depth
    for s in body:
        if isinstance(s, Op):
            out.append(pad + print_op(s))
        elif isinstance(s, Yield):
            out.append(pad + print_yield(s))
        elif isinstance(s, For | Parallel):
            out.append(pad + print_head(s) + " {")
            _block(s.body, depth + 1, out)
            out.append(pad + "}")
        else:
            raise TypeError(f"not a statement: {s!r}")


def print_head(s: For | Parallel) -> str:
    """The line that opens a loop, without its brace."""
    if isinstance(s, Parallel):
        text = f"parallel {', '.join(map(show_loop_var, s.vars))}"
        text += f" order grouped({s.group})" if s.group else ""
        return text + (" persistent" if s.persistent else "")
    text = f"for {show_loop_var(s.var)}"
    if s.results:
        text = f"{', '.join('%' + r for r in s.results)} = {text}"
    if s.stages != 1:
        text += f" stages {s.stages}"
    if s.carries:
        text += f" carry ({', '.join(f'%{n} = {show_operand(v)}' for n, v in s.carries)})"
    return text


def show_loop_var(v: LoopVar) -> str:
    tile = f" tile {v.tile}" if v.tile is not None else ""
    return f"%{v.name} = {show(v.lo, '%')} to {show(v.hi, '%')}{tile}"


def show_operand(x: Operand) -> str:
    return f"%{x}" if isinstance(x, str) else show_number(x)


def print_op(op: Op) -> str:
    """One op as a statement, by its class's format."""
    parts = [f"%{op.result} ="] if op.result is not None else []
    parts.append(op.mnemonic)
    _pieces(op, op.pieces, parts)
    return " ".join(parts).replace(" ,", ",")


def _pieces(op: Op, pieces: tuple[Piece, ...], parts: list[str]) -> None:
    for p in pieces:
        if p.literal:
            parts.append(p.literal)
        elif p.group:
            if getattr(op, p.field) != p.default:
                _pieces(op, p.group, parts)
        else:
            text = _field(op, p)
            # Coordinates belong to the tensor before them, without a space.
            if p.kind == "coords":
                parts[-1] += text
            else:
                parts.append(text)


def _field(op: Op, p: Piece) -> str:
    value = getattr(op, p.field)
    match p.kind:
        case "operand":
            return show_operand(value)
        case "tensor" | "index":
            return f"%{value}"
        case "flag":
            return p.field
        case "coords":
            fill = getattr(op, "fill", 0)
            # A positive zero is what is read without `else`; a negative one must be said.
            tail = "" if str(fill) in ("0", "0.0", "False") else show_number(fill)
            return show_subscripts(value, tail, "%")
        case "ints":
            return f"[{', '.join(map(str, value))}]"
        case "value":
            return show_number(value) if isinstance(value, int | float) else show(value, "%")
    return str(value)


def _program_block(body: tuple[ProgramStmt, ...], depth: int, out: list[str]) -> None:
    pad = INDENT * depth
    for s in body:
        if isinstance(s, Repeat | Once):
            out.append(f"{pad}{print_program_head(s)} {{")
            _program_block(s.body, depth + 1, out)
            out.append(pad + "}")
        else:
            out.append(pad + print_program_head(s))


def print_program_head(s: ProgramStmt) -> str:
    """A statement of a program; of a block, the line that opens it, without its brace."""
    match s:
        case Temp(name, type_):
            return f"temp %{name} : {type_}"
        case KernelCall(kernel, args, outs):
            return f"call @{kernel}({_views(args)}) -> ({_views(outs)})"
        case Repeat(var, lo, hi):
            return f"repeat %{var} = {show(lo, '%')} to {show(hi, '%')}"
        case Once():
            return "once"


def _views(views: tuple[View, ...]) -> str:
    return ", ".join(
        f"%{v.tensor}[{', '.join(show(i, '%') for i in v.indices)}]"
        if v.indices
        else f"%{v.tensor}"
        for v in views
    )
