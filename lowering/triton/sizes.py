"""Sizes of a program's dims in the Python functions around the kernels."""

from __future__ import annotations

from ke_ir.expr import Dim, Expr, Num, dims_of, rewrite, show
from ke_ir.ir import DimDecl, Signature
from lowering.triton.bounds import Bounds
from lowering.triton.options import Unsupported
from lowering.triton.writer import Names


class SizeText:
    """Names for tensors and dims of one function, and the lines that define the dims it uses."""

    def __init__(self, signature: Signature, bounds: Bounds, names: Names, has_out: bool) -> None:
        self.signature, self.bounds, self.names, self.has_out = signature, bounds, names, has_out
        self.tensors = {n: names.new(n) for n in signature.tensors}
        self.dims = {d.name: names.new(d.name) for d in signature.dims}
        self.used: set[str] = set()

    def text(self, e: Expr) -> str:
        """A size as Python text; its dims are then defined by ``lines``."""
        self.used |= dims_of(e)
        value = self._folded(e)
        return show(self._named(e)) if value is None else str(value)

    def _folded(self, e: Expr) -> int | None:
        """The number that an expression without dims is."""
        if dims_of(e) or isinstance(e, Num):
            return None
        p = self.bounds.exact(e)
        return None if p is None else p.value

    def _named(self, e: Expr) -> Expr:
        return rewrite(e, lambda n: Dim(self.dims[n.name]) if isinstance(n, Dim) else None)

    def lines(self, checked: bool = False) -> list[str]:
        """Definitions of the dims used: read from shapes (and ``checked``), computed, or fixed."""
        wanted = set(self.used)
        for d in reversed(self.signature.dims):
            if d.name in wanted and d.is_derived:
                wanted |= dims_of(d.size)
        out = []
        for d in self.signature.dims:
            if d.name not in wanted:
                continue
            name = self.dims[d.name]
            if d.is_range:
                out.append(f"{name} = {self._read(d)}")
                if checked:
                    message = f"{d.name} = {{{name}}}, not within {d.low} to {d.high}"
                    out.append(f"if not {d.low} <= {name} <= {d.high}:")
                    out.append(f'    raise ValueError(f"{message}")')
            elif d.name in self.bounds.static:
                out.append(f"{name} = {self.bounds.static[d.name]}")
            else:
                out.append(f"{name} = {show(self._named(d.size))}")
        return out

    def _read(self, d: DimDecl) -> str:
        """Where a run-time dim is found: an input's shape, else an output's."""
        for p in self.signature.inputs:
            for i, e in enumerate(p.type.shape):
                if e == Dim(d.name):
                    return f"{self.tensors[p.name]}.shape[{i}]"
        for p in self.signature.inputs:
            for i, e in enumerate(p.type.shape):
                got = self._solved(e, d.name)
                if got is not None:
                    return f"{self.tensors[p.name]}.shape[{i}]{got}"
        for k, p in enumerate(self.signature.outputs):
            for i, e in enumerate(p.type.shape):
                if e == Dim(d.name):
                    default = f'DIMS["{d.name}"]'
                    return f"{default} if out is None else out[{k}].shape[{i}]" if (
                        self.has_out) else default  # fmt: skip
        raise Unsupported(
            f"dim {d.name} = {d.low} to {d.high}", "no tensor's shape tells its size",
            f"make {d.name} static, or give a tensor a dimension of that size",
        )  # fmt: skip

    def _solved(self, e: Expr, name: str) -> str | None:
        """Solve ``size == factor * dim + rest`` for the dim: what to append to the size."""
        p = self.bounds.exact(e)
        if p is None or not set(p.terms) <= {(name,), ()} or (name,) not in p.terms:
            return None
        factor, rest = p.terms[(name,)], p.terms.get((), 0)
        moved = f" {'-' if rest > 0 else '+'} {abs(rest)}" if rest else ""
        return moved if factor == 1 else None if moved else f" // {factor}"
