"""Products of f32 as products of bf16 parts that are written out, and parts computed beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.expr import Num, Var
from ke_ir.ir import For, Kernel, LoopVar, Module, Parallel, Param, Temp
from ke_ir.ops import Binary, Cast, Dot, Expand, Load, Permute, Store
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.rewrites import base
from ke_ir.rewrites.base import (
    KernelRewrite,
    NoMatch,
    Rewrite,
    register_rewrite,
    tensor,
    value,
    word,
)
from ke_ir.rewrites.body import Facts, facts, splice
from ke_ir.rewrites.names import Fresh
from ke_ir.rewrites.padding import origin
from ke_ir.rewrites.programs import fresh_item, in_sequence, is_given
from ke_ir.rewrites.tidy import tidied
from ke_ir.types import DType, TensorType, TileType

PRODUCTS = {
    "bf16x3": ((1, 0), (0, 1), (0, 0)),
    "bf16x6": ((2, 0), (0, 2), (1, 1), (1, 0), (0, 1), (0, 0)),
}
"""Which parts of either operand a precision multiplies, smallest products first."""
TILE = 32
"""Rows and columns of a tile that is split; a vector's tile is that of a whole such tile."""


@register_rewrite
@dataclass(frozen=True)
class SplitDot(KernelRewrite):
    """Write out a product of precision ``bf16x3`` or ``bf16x6``: bf16 parts and their products.

    ``pack_parts`` can then compute the parts once, before the kernel. What a loop carries is added
    last: matrix units cut off what is far smaller than what they add to.

    ``split_dot(@mm, %p)``

    Before:

    ```
    kernel @mm(%a: f32[M, K], %b: f32[K, N]) -> (%y: f32[M, N])
    dims M = 4, K = 8, N = 4
    {
      parallel %m = 0 to M tile 4, %n = 0 to N tile 4, %k = 0 to K tile 8 {
        %u = load %a[%m, %k] : f32[4, 8]
        %v = load %b[%k, %n] : f32[8, 4]
        %p = dot %u, %v precision bf16x3
        store %p, %y[%m, %n]
      }
    }
    ```

    After:

    ```
    kernel @mm(%a: f32[M, K], %b: f32[K, N]) -> (%y: f32[M, N])
    dims M = 4, K = 8, N = 4
    {
      parallel %m = 0 to M tile 4, %n = 0 to N tile 4, %k = 0 to K tile 8 {
        %u = load %a[%m, %k] : f32[4, 8]
        %v = load %b[%k, %n] : f32[8, 4]
        %u_part = cast %u : bf16
        %u_wide = cast %u_part : f32
        %u_rest = sub %u, %u_wide
        %u_part_1 = cast %u_rest : bf16
        %v_part = cast %v : bf16
        %v_wide = cast %v_part : f32
        %v_rest = sub %v, %v_wide
        %v_part_1 = cast %v_rest : bf16
        %p_1 = dot %u_part_1, %v_part
        %p_2 = dot %u_part, %v_part_1, %p_1
        %p = dot %u_part, %v_part, %p_2
        store %p, %y[%m, %n]
      }
    }
    ```
    """

    name = "split_dot"
    dot: str = value()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        op = f.definitions.get(self.dot)
        if not isinstance(op, Dot):
            return NoMatch(f"@{k.name} has no dot %{self.dot}")
        if op.precision not in PRODUCTS:
            return NoMatch(f"the precision of %{self.dot} is {op.precision}, "
                           f"not {' or '.join(PRODUCTS)}")  # fmt: skip
        for x in (op.a, op.b):
            if not isinstance(f.definitions.get(origin(f, x)), Load):
                return NoMatch(f"%{x} is computed, and may be infinite: its parts would be NaN")
        fresh = Fresh(k)
        products = PRODUCTS[op.precision]
        out: list[Op] = []
        n = 1 + max(i for i, _ in products)
        a, b = (_parts(str(x), n, fresh, out) for x in (op.a, op.b))
        whole = self.dot if op.acc is None else fresh(f"{self.dot}_1")
        acc: Operand | None = None
        for i, j in products:
            last = (i, j) == products[-1]
            name = whole if last else fresh(f"{self.dot}_1")
            out.append(replace(op, a=a[i], b=b[j], acc=acc, precision="ieee", result=name))
            acc = name
        if op.acc is not None:
            out.append(Binary("add", op.acc, whole, result=self.dot))
        return tidied(splice(k, f.places[self.dot], out))

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        for name, op in facts(k).definitions.items():
            if isinstance(op, Dot) and op.precision in PRODUCTS:
                made = cls(k.name, name)
                if not isinstance(made.change(k), NoMatch):
                    yield made


def _parts(x: str, n: int, fresh: Fresh, out: list[Op]) -> list[str]:
    """Names of ``n`` bf16 values whose sum is ``x`` but for rounding, largest first."""
    parts: list[str] = []
    rest = x
    for i in range(n):
        parts.append(fresh(f"{x}_part"))
        out.append(Cast(rest, DType.BF16, result=parts[-1]))
        if i < n - 1:
            wide, less = fresh(f"{x}_wide"), fresh(f"{x}_rest")
            out.append(Cast(parts[-1], DType.F32, result=wide))
            out.append(Binary("sub", rest, wide, result=less))
            rest = less
    return parts


@register_rewrite
@dataclass(frozen=True)
class PackParts(Rewrite):
    """Split an f32 operand into its bf16 parts in memory, before the kernel reads it.

    For what ``split_dot`` gives. ``once``: for weights, whose splitting is reported apart from the
    kernel's time; ``each``: with every call.

    ``pack_parts(@mm, %w, once)``

    Before:

    ```
    kernel @mm(%x: bf16[M, K], %w: f32[K, N]) -> (%y: f32[M, N])
    dims M = 4, K = 8, N = 4
    {
      parallel %m = 0 to M tile 4, %n = 0 to N tile 4, %k = 0 to K tile 8 {
        %u = load %x[%m, %k] : bf16[4, 8]
        %v = load %w[%k, %n] : f32[8, 4]
        %v0 = cast %v : bf16
        %vw = cast %v0 : f32
        %vr = sub %v, %vw
        %v1 = cast %vr : bf16
        %q = dot %u, %v1
        %p = dot %u, %v0, %q
        store %p, %y[%m, %n]
      }
    }
    ```

    After:

    ```
    kernel @mm_split_w(%w: f32[K, N]) -> (%w_part: bf16[K, N], %w_part_1: bf16[K, N])
    dims M = 4, K = 8, N = 4
    {
      parallel %i0 = 0 to K tile 32, %i1 = 0 to N tile 32 {
        %x = load %w[%i0, %i1] : f32[32, 32]
        %x_part = cast %x : bf16
        %x_wide = cast %x_part : f32
        %x_rest = sub %x, %x_wide
        %x_part_1 = cast %x_rest : bf16
        store %x_part, %w_part[%i0, %i1]
        store %x_part_1, %w_part_1[%i0, %i1]
      }
    }
    kernel @mm_parts(%x: bf16[M, K], %w_part: bf16[K, N], %w_part_1: bf16[K, N])
      -> (%y: f32[M, N])
    dims M = 4, K = 8, N = 4
    {
      parallel %m = 0 to M tile 4, %n = 0 to N tile 4, %k = 0 to K tile 8 {
        %u = load %x[%m, %k] : bf16[4, 8]
        %v0 = load %w_part[%k, %n] : bf16[8, 4]
        %v1 = load %w_part_1[%k, %n] : bf16[8, 4]
        %q = dot %u, %v1
        %p = dot %u, %v0, %q
        store %p, %y[%m, %n]
      }
    }
    program @mm(%x: bf16[M, K], %w: f32[K, N]) -> (%y: f32[M, N])
    dims M = 4, K = 8, N = 4
    {
      temp %w_part : bf16[K, N]
      temp %w_part_1 : bf16[K, N]
      once {
        call @mm_split_w(%w) -> (%w_part, %w_part_1)
      }
      call @mm_parts(%x, %w_part, %w_part_1) -> (%y)
    }
    ```
    """

    name = "pack_parts"
    kernel: str = base.kernel()
    tensor: str = tensor()
    when: str = word("once", "each")

    def apply(self, module: Module) -> Module | NoMatch:
        k = module.kernels.get(self.kernel)
        if k is None:
            return NoMatch(f"there is no kernel @{self.kernel}")
        param = next((p for p in k.inputs if p.name == self.tensor), None)
        if param is None:
            return NoMatch(f"@{k.name} has no input %{self.tensor}")
        if self.when == "once" and not is_given(module, self.kernel, self.tensor):
            return NoMatch(f"%{self.tensor} is computed anew in every run")
        found = _split_loads(facts(k), self.tensor)
        if isinstance(found, NoMatch):
            return found
        fresh = Fresh(k)
        kind = TensorType(DType.BF16, param.type.shape)
        n = max(len(s.parts) for s in found)
        parts = tuple(Param(fresh(f"{self.tensor}_part"), kind) for _ in range(n))
        body = _Reader(found, [p.name for p in parts], fresh).block(k.body)
        inputs = tuple(q for p in k.inputs for q in (parts if p is param else (p,)))
        reader = tidied(replace(k, name=fresh_item(module, f"{k.name}_parts"),
                                inputs=inputs, body=body))  # fmt: skip
        splitter = _splitter(fresh_item(module, f"{k.name}_split_{param.name}"), k, param, parts)
        first = (splitter,) if self.when == "each" else ()
        once = (splitter,) if self.when == "once" else ()
        temps = [Temp(p.name, p.type) for p in parts]
        return in_sequence(module, k.name, (*first, reader), temps, once)

    @classmethod
    def applicable(cls, module: Module) -> Iterator[Self]:
        for k in module.kernels.values():
            for p in k.inputs:
                if p.type.dtype is DType.F32 and not isinstance(
                    _split_loads(facts(k), p.name), NoMatch
                ):
                    for when in ("once", "each"):
                        made = cls(k.name, p.name, when)
                        if not isinstance(made.apply(module), NoMatch):
                            yield made


@dataclass(frozen=True)
class _Split:
    """A load, the changes of shape after it, and the parts in which alone it is used."""

    load: Load
    shapes: tuple[Op, ...]
    parts: tuple[str, ...]


def _split_loads(f: Facts, name: str) -> list[_Split] | NoMatch:
    found = []
    for _, s in f.statements:
        if isinstance(s, Load) and s.tensor == name:
            got = _split_of(f, s)
            if isinstance(got, NoMatch):
                return got
            found.append(got)
    return found or NoMatch(f"@{f.kernel.name} does not load %{name}")


def _split_of(f: Facts, load: Load) -> _Split | NoMatch:
    other = NoMatch(f"%{load.result} is used otherwise than by its bf16 parts")
    if load.fill != 0:
        return NoMatch(f"%{load.result} is {load.fill} outside %{load.tensor}")
    x, shapes = str(load.result), []
    users = [s for _, s in f.users.get(x, [])]
    while len(users) == 1 and isinstance(users[0], Permute | Expand):
        shapes.append(users[0])
        x = str(users[0].result)
        users = [s for _, s in f.users.get(x, [])]
    parts: list[str] = []
    while True:
        casts = [s for s in users if isinstance(s, Cast) and s.dtype is DType.BF16]
        rests = [s for s in users if isinstance(s, Binary) and s.fn == "sub" and s.x == x]
        if len(casts) != 1 or len(rests) > 1 or len(users) != 1 + len(rests):
            return other
        parts.append(str(casts[0].result))
        if not rests:
            return _Split(load, tuple(shapes), tuple(parts)) if len(parts) > 1 else other
        wide = f.definitions.get(str(rests[0].y))
        if not (isinstance(wide, Cast) and wide.x == parts[-1] and wide.dtype is DType.F32):
            return other
        x = str(rests[0].result)
        users = [s for _, s in f.users.get(x, [])]


class _Reader:
    """Makes the parts of a tensor's elements loads of tensors that hold them."""

    def __init__(self, found: Iterable[_Split], tensors: list[str], fresh: Fresh) -> None:
        self.tensors, self.fresh = tensors, fresh
        self.parts = {n: (s, i) for s in found for i, n in enumerate(s.parts)}

    def block(self, body: Iterable[Stmt]) -> tuple[Stmt, ...]:
        out: list[Stmt] = []
        for s in body:
            if isinstance(s, For | Parallel):
                out.append(replace(s, body=self.block(s.body)))
            elif isinstance(s, Cast) and s.result in self.parts:
                out += self.loaded(s.result)
            else:
                out.append(s)
        return tuple(out)

    def loaded(self, name: str) -> list[Op]:
        split, i = self.parts[name]
        chain: list[Op] = [split.load, *split.shapes]
        names = [self.fresh(name) for _ in chain[1:]] + [name]
        t = split.load.type.with_dtype(DType.BF16)
        out: list[Op] = [replace(split.load, tensor=self.tensors[i], type=t, result=names[0])]
        for s, x, y in zip(chain[1:], names, names[1:], strict=False):
            out.append(replace(s, x=x, result=y))  # type: ignore[call-arg]
        return out


def _splitter(name: str, k: Kernel, param: Param, parts: tuple[Param, ...]) -> Kernel:
    """The kernel that stores the parts."""
    outer = replace(k, name=name, inputs=(param,), outputs=parts, body=())
    fresh = Fresh(outer)
    rank = len(param.type.shape)
    tiles = [None] * (rank - 2) + ([TILE, TILE] if rank > 1 else [TILE * TILE] * rank)
    sizes = zip(param.type.shape, tiles, strict=True)
    vars_ = [LoopVar(fresh(f"i{i}"), Num(0), n, tile) for i, (n, tile) in enumerate(sizes)]
    coords = tuple(Var(v.name) for v in vars_)
    x = fresh("x")
    t = TileType(DType.F32, tuple(v.tile for v in vars_ if v.tile is not None))
    out: list[Op] = [Load(param.name, coords, t, result=x)]
    names = _parts(x, len(parts), fresh, out)
    stores = [Store(n, p.name, coords) for n, p in zip(names, parts, strict=True)]
    return replace(outer, body=(Parallel(tuple(vars_), (*out, *stores)),))
