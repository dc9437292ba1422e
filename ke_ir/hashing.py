"""Structural hash: equal for programs that differ only in the names of their values.

``nameless_hash`` does not look at the names of a kernel and of its tensors either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import count

from ke_ir.expr import Expr, Var, rewrite
from ke_ir.ir import (
    For,
    Item,
    Kernel,
    KernelCall,
    Module,
    Once,
    OpDef,
    Parallel,
    Program,
    ProgramStmt,
    Repeat,
    Temp,
    Tuned,
    View,
    Yield,
)
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.printer import print_item


def structural_hash(item: Module | Item) -> str:
    """A hash of 32 hex digits; names of values, loop variables and temporaries do not count.

    Names of tensors, dims, kernels and knobs do, and so does the order of statements. A module's
    hash covers its items in order.
    """
    items = item.items if isinstance(item, Module) else (item,)
    return _digest("\n".join(_normal_text(i) for i in items))


def nameless_hash(kernel: Kernel) -> str:
    """A hash of 32 hex digits: equal for kernels that are equal but for names.

    Beside those that do not count in ``structural_hash``, the names of the kernel and its tensors
    do not: tensors count by their places. Names of dims do, and their sizes.
    """
    return _digest(print_item(_nameless(kernel)))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _normal_text(item: Item) -> str:
    if isinstance(item, OpDef | Tuned):
        return print_item(item)
    return print_item(normalised(item))


def normalised(item: Kernel | Program) -> Kernel | Program:
    """The same kernel with values named by order of definition (``%0``, ``%1``, ...)."""
    if isinstance(item, Kernel):
        return replace(item, body=_Renamer(frozenset(item.tensors)).block(item.body))
    return _normal_program(item)


def _nameless(kernel: Kernel) -> Kernel:
    """The same kernel with tensors named by their place among the parameters, and values too."""
    tensors = {name: f"arg{i}" for i, name in enumerate(kernel.tensors)}
    inputs, outputs = (
        tuple(replace(p, name=tensors[p.name]) for p in side)
        for side in (kernel.inputs, kernel.outputs)
    )
    body = _Renamer(frozenset(tensors.values()), tensors).block(kernel.body)
    return replace(kernel, name="kernel", inputs=inputs, outputs=outputs, body=body)


class _Renamer:
    """Names values by order of definition, and tensors as ``tensors`` says."""

    def __init__(self, taken: frozenset[str], tensors: Mapping[str, str] | None = None) -> None:
        self.names: dict[str, str] = {}
        self.tensors = tensors or {}
        self.fresh = (n for i in count() if (n := str(i)) not in taken)

    def define(self, name: str) -> str:
        self.names[name] = next(self.fresh)
        return self.names[name]

    def use(self, x: Operand) -> Operand:
        return self.names.get(x, x) if isinstance(x, str) else x

    def expr(self, e: Expr) -> Expr:
        return rewrite(
            e, lambda n: Var(self.names.get(n.name, n.name)) if isinstance(n, Var) else None
        )

    def block(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(self.statement(s) for s in body)

    def statement(self, s: Stmt) -> Stmt:
        if isinstance(s, Op):
            return self.op(s)
        if isinstance(s, Yield):
            return Yield(tuple(self.use(v) for v in s.values))
        if isinstance(s, Parallel):
            vars_ = []
            for v in s.vars:
                lo, hi = self.expr(v.lo), self.expr(v.hi)
                vars_.append(replace(v, name=self.define(v.name), lo=lo, hi=hi))
            return replace(s, vars=tuple(vars_), body=self.block(s.body))
        if isinstance(s, For):
            lo, hi = self.expr(s.var.lo), self.expr(s.var.hi)
            inits = [self.use(i) for _, i in s.carries]
            var = replace(s.var, name=self.define(s.var.name), lo=lo, hi=hi)
            carries = tuple((self.define(n), i) for (n, _), i in zip(s.carries, inits, strict=True))
            body = self.block(s.body)
            results = tuple(self.define(r) for r in s.results)
            return replace(s, var=var, carries=carries, body=body, results=results)
        raise TypeError(f"not a statement: {s!r}")

    def op(self, s: Op) -> Op:
        new: dict[str, object] = {}
        for f in fields(s):
            kind, value = f.metadata.get("kind"), getattr(s, f.name)
            if kind == "operand":
                new[f.name] = self.use(value)
            elif kind == "tensor":
                new[f.name] = self.tensors.get(value, value)
            elif kind == "index":
                new[f.name] = self.names.get(value, value)
            elif kind == "coords":
                new[f.name] = tuple(self.expr(c) for c in value)
        if s.result is not None:
            new["result"] = self.define(s.result)
        return replace(s, **new)  # type: ignore[arg-type]


def _normal_program(p: Program) -> Program:
    # Temporaries stand where arguments do, so no new name may be an argument's.
    names = _Renamer(taken=frozenset(p.tensors))

    def view(v: View) -> View:
        return View(str(names.use(v.tensor)), tuple(map(names.expr, v.indices)))

    def block(body: tuple[ProgramStmt, ...]) -> tuple[ProgramStmt, ...]:
        out: list[ProgramStmt] = []
        for s in body:
            match s:
                case Temp(name, type_):
                    out.append(Temp(names.define(name), type_))
                case KernelCall(kernel, args, outs):
                    out.append(KernelCall(kernel, tuple(map(view, args)), tuple(map(view, outs))))
                case Repeat(var, lo, hi, inner):
                    out.append(Repeat(names.define(var), lo, hi, block(inner)))
                case Once(inner):
                    out.append(Once(block(inner)))
        return tuple(out)

    return replace(p, body=block(p.body))
