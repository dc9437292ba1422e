"""Names in a kernel's body: which are used, renaming them, and making them unique."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, fields, replace
from typing import Any

from ke_ir.expr import Expr, Var, rewrite, variables
from ke_ir.ir import For, Kernel, LoopVar, Module, Parallel, Yield, defined_names, statements
from ke_ir.ops import Iota
from ke_ir.ops.base import Op, Operand, Stmt

_NAMING: dict[type[Op], tuple[Field[Any], ...]] = {}


def _naming_fields(cls: type[Op]) -> tuple[Field[Any], ...]:
    """The fields of an op kind that hold names of values or loop variables."""
    found = _NAMING.get(cls)
    if found is None:
        kinds = ("operand", "index", "coords")
        found = tuple(f for f in fields(cls) if f.metadata.get("kind") in kinds)
        _NAMING[cls] = found
    return found


def used_names(s: Stmt) -> Iterator[str]:
    """Values and loop variables that a statement names, without those in its body; may repeat."""
    if isinstance(s, Op):
        yield from (x for x in s.operands() if isinstance(x, str))
        for c in s.coordinates():
            yield from variables(c)
        if isinstance(s, Iota):
            yield s.index
    elif isinstance(s, Yield):
        yield from (x for x in s.values if isinstance(x, str))
    elif isinstance(s, For | Parallel):
        for v in (s.var,) if isinstance(s, For) else s.vars:
            yield from variables(v.lo)
            yield from variables(v.hi)
        if isinstance(s, For):
            yield from (x for _, x in s.carries if isinstance(x, str))


def used_in(body: Iterable[Stmt]) -> set[str]:
    """All names that statements use, at any depth, whether or not they define them too."""
    return {n for s in statements(tuple(body)) for n in used_names(s)}


def defined_in(body: Iterable[Stmt]) -> Iterator[str]:
    """All names that statements define, at any depth: values, loop variables, carried values."""
    for s in statements(tuple(body)):
        if isinstance(s, For):
            yield s.var.name
            yield from (n for n, _ in s.carries)
        elif isinstance(s, Parallel):
            yield from (v.name for v in s.vars)
        yield from defined_names(s)


class Renamer:
    """Replaces names where they are used by operands; ``define`` renames where they are defined.

    A loop variable or coordinate can only become another name.
    """

    def __init__(
        self,
        values: Mapping[str, Operand],
        define: Callable[[str], str] = lambda n: n,
    ) -> None:
        self.values = values
        self.define = define

    def operand(self, x: Any) -> Any:
        return self.values.get(x, x) if isinstance(x, str) else x

    def name(self, n: str) -> str:
        got = self.values.get(n, n)
        if not isinstance(got, str):
            raise TypeError(f"%{n} stands where a literal cannot")
        return got

    def expr(self, e: Expr) -> Expr:
        if isinstance(e, Var):
            return e if e.name not in self.values else replace(e, name=self.name(e.name))
        if not any(n in self.values for n in variables(e)):
            return e
        return rewrite(e, lambda n: Var(self.name(n.name)) if isinstance(n, Var) else None)

    def block(self, body: Iterable[Stmt]) -> tuple[Stmt, ...]:
        return tuple(self.statement(s) for s in body)

    def statement(self, s: Stmt) -> Stmt:
        if isinstance(s, Op):
            return self.op(s)
        if isinstance(s, Yield):
            return replace(s, values=tuple(map(self.operand, s.values)))
        if isinstance(s, Parallel):
            return replace(s, vars=tuple(map(self.var, s.vars)), body=self.block(s.body))
        if isinstance(s, For):
            return replace(
                s,
                var=self.var(s.var),
                carries=tuple((self.define(n), self.operand(x)) for n, x in s.carries),
                body=self.block(s.body),
                results=tuple(map(self.define, s.results)),
            )
        raise TypeError(f"not a statement: {s!r}")

    def var(self, v: LoopVar) -> LoopVar:
        return replace(v, name=self.define(v.name), lo=self.expr(v.lo), hi=self.expr(v.hi))

    def op(self, s: Op) -> Op:
        new: dict[str, Any] = {}
        for f in _naming_fields(type(s)):
            old = getattr(s, f.name)
            match f.metadata["kind"]:
                case "operand":
                    got = self.operand(old)
                case "index":
                    got = self.name(old)
                case _:
                    got = tuple(map(self.expr, old))
            if got != old:
                new[f.name] = got
        if s.result is not None and (name := self.define(s.result)) != s.result:
            new["result"] = name
        return replace(s, **new) if new else s


def renamed(body: Iterable[Stmt], names: Mapping[str, Operand]) -> tuple[Stmt, ...]:
    """Statements with uses of these names replaced by other names or literals."""
    return Renamer(names).block(body) if names else tuple(body)


class Fresh:
    """Makes names that a kernel does not use yet."""

    def __init__(self, k: Kernel) -> None:
        self.used = {*k.tensors, *(d.name for d in k.dims), *defined_in(k.body)}

    def __call__(self, hint: str) -> str:
        """``hint`` itself if free, else ``hint_1``, ``hint_2``, ..."""
        base, _, number = hint.rpartition("_")
        if not base or not number.isdigit():
            base = hint
        name, n = hint, 1
        while name in self.used:
            name, n = f"{base}_{n}", n + 1
        self.used.add(name)
        return name


def copied(
    body: Iterable[Stmt], fresh: Fresh, names: dict[str, Operand] | None = None
) -> tuple[Stmt, ...]:
    """A copy of statements whose definitions all have fresh names.

    ``names`` replaces names that the statements use and do not define; it receives the new names
    of those that they do.
    """
    body = tuple(body)
    values: dict[str, Operand] = {} if names is None else names
    for n in defined_in(body):
        values[n] = fresh(n)
    return Renamer(values, lambda n: str(values.get(n, n))).block(body)


def unique_names(module: Module) -> Module:
    """The module with one name for each loop variable and value within each kernel.

    Names that stand once stay; the module itself is returned if all do. ``module`` must verify.
    """
    items = tuple(_unique(i) if isinstance(i, Kernel) else i for i in module.items)
    if all(a is b for a, b in zip(items, module.items, strict=True)):
        return module
    return Module(items, module.source, module.file)


def _unique(k: Kernel) -> Kernel:
    names = list(defined_in(k.body))
    if len(set(names)) == len(names):
        return k
    return replace(k, body=_Unique(Fresh(k)).block(k.body))


class _Unique(Renamer):
    """Renames every definition that repeats an earlier name, in order of appearance."""

    def __init__(self, fresh: Fresh) -> None:
        self.now: dict[str, Operand] = {}
        super().__init__(self.now, self._define)
        self.fresh = fresh
        self.seen: set[str] = set()

    def _define(self, name: str) -> str:
        got = self.fresh(name) if name in self.seen else name
        self.seen.add(name)
        self.now[name] = got
        return got

    def statement(self, s: Stmt) -> Stmt:
        if not isinstance(s, For):
            return super().statement(s)
        # Bounds and initial values are outside the loop: names there are the outer ones.
        lo, hi = self.expr(s.var.lo), self.expr(s.var.hi)
        inits = [self.operand(x) for _, x in s.carries]
        var = replace(s.var, name=self.define(s.var.name), lo=lo, hi=hi)
        names = [self.define(n) for n, _ in s.carries]
        body = self.block(s.body)
        results = tuple(map(self.define, s.results))
        carries = tuple(zip(names, inits, strict=True))
        return replace(s, var=var, carries=carries, body=body, results=results)
