"""Edits of kernels whose effect on hash and diff is known: renamings, and single changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from ke_ir.expr import Bin, Expr, Num
from ke_ir.ir import For, Kernel, Module, Parallel, Program, Yield
from ke_ir.ops import Op
from ke_ir.ops.base import Stmt
from ke_ir.parser import parse
from ke_ir.printer import print_module
from ke_ir.types import DType, TileType

Body = tuple[Stmt, ...]
_NAME = re.compile(r"%(\w+)")


def renamed(m: Module, choose: Callable[[list[str]], Sequence[str]]) -> Module:
    """The module with values, loop variables, steps and temporaries renamed.

    ``choose`` gives new names for the old ones, in order and without repetition.
    """
    kept = {n for i in m.items if isinstance(i, Kernel | Program) for n in i.tensors}
    text = print_module(m)
    old = sorted(set(_NAME.findall(text)) - kept)
    names = dict(zip(old, choose(old), strict=True))
    return parse(_NAME.sub(lambda f: "%" + names.get(f[1], f[1]), text))


def single_changes(k: Kernel) -> Iterator[Kernel]:
    """Kernels that differ in one attribute of one statement, for every attribute there is."""
    for body in _changed(k.body):
        yield replace(k, body=body)


def insertions(k: Kernel, op: Op) -> Iterator[Kernel]:
    """Kernels with one more op, at each place inside the parallel loop."""
    for body in _inserted(k.body, op, outermost=True):
        yield replace(k, body=body)


def removals(k: Kernel) -> Iterator[Kernel]:
    """Kernels with one op less. What it defined may be used still: they need not verify."""
    for body in _removed(k.body):
        yield replace(k, body=body)


def _inside(s: Stmt, bodies: Iterator[Body]) -> Iterator[Stmt]:
    if isinstance(s, For | Parallel):
        for body in bodies:
            yield replace(s, body=body)


def _spliced(body: Body, i: int, new: Iterator[Stmt]) -> Iterator[Body]:
    for s in new:
        yield (*body[:i], s, *body[i + 1 :])


def _changed(body: Body) -> Iterator[Body]:
    for i, s in enumerate(body):
        yield from _spliced(body, i, _changes(s))
        if isinstance(s, For | Parallel):
            yield from _spliced(body, i, _inside(s, _changed(s.body)))


def _inserted(body: Body, op: Op, outermost: bool = False) -> Iterator[Body]:
    for i, s in enumerate(body):
        if not outermost:
            yield (*body[:i], op, *body[i:])
        if isinstance(s, For | Parallel):
            yield from _spliced(body, i, _inside(s, _inserted(s.body, op)))


def _removed(body: Body) -> Iterator[Body]:
    for i, s in enumerate(body):
        if isinstance(s, Op):
            yield (*body[:i], *body[i + 1 :])
        elif isinstance(s, For | Parallel):
            yield from _spliced(body, i, _inside(s, _removed(s.body)))


def _changes(s: Stmt) -> Iterator[Stmt]:
    if isinstance(s, For):
        yield replace(s, stages=s.stages + 1)
        yield from (replace(s, var=v) for v in _var_changes(s.var))
    elif isinstance(s, Parallel):
        yield replace(s, persistent=not s.persistent)
        yield replace(s, group=s.group + 1)
        yield from (replace(s, vars=(v, *s.vars[1:])) for v in _var_changes(s.vars[0]))
    elif isinstance(s, Op):
        for f in fields(s):
            kind = "fn" if f.name == "fn" else f.metadata.get("kind", f.name)
            for value in _other(s, kind, getattr(s, f.name), f.metadata.get("choices")):
                yield replace(s, **{f.name: value})  # type: ignore[arg-type]
    elif isinstance(s, Yield):
        yield replace(s, values=(*s.values[:-1], 31 if s.values[-1:] != (31,) else 32))


def _var_changes(v: Any) -> Iterator[Any]:
    yield replace(v, tile=(v.tile or 1) + 1)
    yield replace(v, lo=Bin("+", v.lo, Num(1)))
    yield replace(v, hi=Bin("+", v.hi, Num(1)))


def _other(op: Op, kind: str, value: Any, choices: frozenset[str] | None) -> Iterator[Any]:
    """Other values that a field may hold; none for those that do not count (names, places)."""
    if kind == "fn":
        yield next(m for m in op.mnemonics if m != value)
    elif kind == "word":
        yield next(w for w in sorted(choices or ()) if w != value)
    elif kind == "int":
        yield value + 1
    elif kind == "ints":
        yield (*value, len(value))
    elif kind == "flag":
        yield not value
    elif kind == "dtype":
        yield DType.I16 if value is not DType.I16 else DType.F32
    elif kind == "tiletype":
        yield value.with_dtype(DType.I16 if value.dtype is not DType.I16 else DType.F32)
        yield TileType(value.dtype, (*value.shape, 2))
    elif kind == "tensor":
        yield value + "_other"
    elif kind == "coords":
        yield (*value, Num(0))
        if value:
            yield (Bin("+", value[0], Num(1)), *value[1:])
    elif kind == "fill":
        yield 77 if value != 77 else 78
    elif kind == "value":
        yield Bin("+", value, Num(1)) if isinstance(value, Expr) else (77 if value != 77 else 78)
    elif kind == "operand" and value is not None:
        yield 77 if isinstance(value, str) else "other"
