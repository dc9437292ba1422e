"""Operands in the order in which they are read: stored transposed before the kernel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.expr import Num, Var
from ke_ir.ir import For, Kernel, LoopVar, Module, Parallel, Param, Temp
from ke_ir.ops import Dot, Load, Permute, Store
from ke_ir.ops.base import Stmt
from ke_ir.rewrites import base
from ke_ir.rewrites.base import NoMatch, Rewrite, register_rewrite, tensor, word
from ke_ir.rewrites.body import facts
from ke_ir.rewrites.names import Fresh
from ke_ir.rewrites.padding import origin
from ke_ir.rewrites.programs import fresh_item, in_sequence, is_given
from ke_ir.types import TensorType, TileType

TILE = 32
"""Rows and columns of a tile that is transposed."""


@register_rewrite
@dataclass(frozen=True)
class Pack(Rewrite):
    """Transpose the last two dimensions of an operand in memory, before the kernel reads it.

    Matrix units read fastest what is contiguous along the summed index. ``once``: for weights,
    whose packing is reported apart from the kernel's time; ``each``: with every call.

    ``pack(@mm, %w, once)``

    Before:

    ```
    kernel @mm(%x: f32[M, K], %w: f32[K, N]) -> (%y: f32[M, N])
    dims M = 4, K = 40, N = 4
    {
      parallel %m = 0 to M tile 4, %n = 0 to N tile 4 {
        %zero = full 0.0 : f32[4, 4]
        %s = for %k = 0 to K tile 8 carry (%acc = %zero) {
          %u = load %x[%m, %k] : f32[4, 8]
          %v = load %w[%k, %n] : f32[8, 4]
          %p = dot %u, %v, %acc
          yield %p
        }
        store %s, %y[%m, %n]
      }
    }
    ```

    After:

    ```
    kernel @mm_pack_w(%w: f32[K, N]) -> (%w_packed: f32[N, K])
    dims M = 4, K = 40, N = 4
    {
      parallel %i0 = 0 to K tile 32, %i1 = 0 to N tile 32 {
        %v = load %w[%i0, %i1] : f32[32, 32]
        %t = permute %v [1, 0]
        store %t, %w_packed[%i1, %i0]
      }
    }
    kernel @mm_packed(%x: f32[M, K], %w_packed: f32[N, K]) -> (%y: f32[M, N])
    dims M = 4, K = 40, N = 4
    {
      parallel %m = 0 to M tile 4, %n = 0 to N tile 4 {
        %zero = full 0.0 : f32[4, 4]
        %s = for %k = 0 to K tile 8 carry (%acc = %zero) {
          %u = load %x[%m, %k] : f32[4, 8]
          %w_1 = load %w_packed[%n, %k] : f32[4, 8]
          %v = permute %w_1 [1, 0]
          %p = dot %u, %v, %acc
          yield %p
        }
        store %s, %y[%m, %n]
      }
    }
    program @mm(%x: f32[M, K], %w: f32[K, N]) -> (%y: f32[M, N])
    dims M = 4, K = 40, N = 4
    {
      temp %w_packed : f32[N, K]
      once {
        call @mm_pack_w(%w) -> (%w_packed)
      }
      call @mm_packed(%x, %w_packed) -> (%y)
    }
    ```
    """

    name = "pack"
    kernel: str = base.kernel()
    tensor: str = tensor()
    when: str = word("once", "each")

    def apply(self, module: Module) -> Module | NoMatch:
        k = module.kernels.get(self.kernel)
        if k is None:
            return NoMatch(f"there is no kernel @{self.kernel}")
        param = next((p for p in k.inputs if p.name == self.tensor), None)
        if param is None or len(param.type.shape) < 2:
            return NoMatch(f"@{k.name} has no input %{self.tensor} of two dimensions or more")
        if self.when == "once" and not is_given(module, self.kernel, self.tensor):
            return NoMatch(f"%{self.tensor} is computed anew in every run")
        fresh = Fresh(k)
        shape = (*param.type.shape[:-2], param.type.shape[-1], param.type.shape[-2])
        packed = Param(fresh(f"{self.tensor}_packed"), TensorType(param.type.dtype, shape))
        body = _Reader(self.tensor, packed.name, k, fresh).block(k.body)
        if isinstance(body, NoMatch):
            return body
        inputs = tuple(packed if p is param else p for p in k.inputs)
        reader = replace(
            k, name=fresh_item(module, f"{k.name}_packed"), inputs=inputs, body=body,
        )  # fmt: skip
        packer = _packer(module, k, param, packed)
        first = (packer,) if self.when == "each" else ()
        once = (packer,) if self.when == "once" else ()
        return in_sequence(
            module, k.name, (*first, reader), (Temp(packed.name, packed.type),), once
        )

    @classmethod
    def applicable(cls, module: Module) -> Iterator[Self]:
        for k in module.kernels.values():
            for name in dict.fromkeys(_across(k)):
                for when in ("once", "each"):
                    made = cls(k.name, name, when)
                    if not isinstance(made.apply(module), NoMatch):
                        yield made


def _across(k: Kernel) -> Iterator[str]:
    """Tensors that a ``dot`` reads across the summed index."""
    f = facts(k)
    for _, s in f.statements:
        if isinstance(s, Dot):
            for x, inner in ((s.a, -1), (s.b, -2)):
                load = f.definitions.get(origin(f, x))
                axis = f.axes.of(str(x))[inner]
                if isinstance(load, Load) and isinstance(load.coords[-1], Var):
                    last = f.axes.of_loop(load.coords[-1].name)
                    if last != axis and len(load.coords) > 1:
                        yield load.tensor


class _Reader:
    """Makes the loads of a tensor loads of its transpose."""

    def __init__(self, name: str, packed: str, k: Kernel, fresh: Fresh) -> None:
        self.name, self.packed, self.fresh = name, packed, fresh
        self.tiles = {n: s.var.tile for n, s in facts(k).loops.items()}

    def block(self, body: Iterable[Stmt]) -> tuple[Stmt, ...] | NoMatch:
        out: list[Stmt] = []
        for s in body:
            if isinstance(s, For | Parallel):
                inner = self.block(s.body)
                if isinstance(inner, NoMatch):
                    return inner
                out.append(replace(s, body=inner))
            elif isinstance(s, Load) and s.tensor == self.name:
                new = self.load(s)
                if isinstance(new, NoMatch):
                    return new
                out += new
            else:
                out.append(s)
        return tuple(out)

    def load(self, s: Load) -> list[Stmt] | NoMatch:
        *head, row, column = s.coords
        names = [c.name for c in s.coords if isinstance(c, Var) and c.name in self.tiles]
        if len(names) != len(s.coords) or len(set(names)) != len(names):
            return NoMatch(f"coordinates of %{s.tensor} are not all loop variables")
        tiled = [self.tiles[n] is not None for n in names[-2:]]
        if not all(tiled):
            return [replace(s, tensor=self.packed, coords=(*head, column, row))]
        n = s.type.rank
        order = (*range(n - 2), n - 1, n - 2)
        turned = s.type.with_shape(tuple(s.type.shape[i] for i in order))
        new = replace(
            s, tensor=self.packed, coords=(*head, column, row), type=turned,
            result=self.fresh(str(s.result)),
        )  # fmt: skip
        return [new, Permute(str(new.result), order, result=s.result)]


def _packer(module: Module, k: Kernel, param: Param, packed: Param) -> Kernel:
    """The kernel that stores the transpose."""
    names = [f"i{i}" for i in range(len(param.type.shape))]
    taken = {d.name for d in k.dims} | {param.name, packed.name}
    names = [n if n not in taken else f"{n}_" for n in names]
    *head, row, column = names
    vars_ = tuple(
        LoopVar(n, Num(0), size, TILE if n in (row, column) else None)
        for n, size in zip(names, param.type.shape, strict=True)
    )
    t = TileType(param.type.dtype, (TILE, TILE))
    load = Load(param.name, tuple(map(Var, names)), t, result="v")
    turn = Permute("v", (1, 0), result="t")
    store = Store("t", packed.name, tuple(map(Var, (*head, column, row))))
    clash = {"v", "t"} & taken
    if clash:
        load, turn = replace(load, result="v_"), replace(turn, x="v_", result="t_")
        store = replace(store, x="t_")
    name = fresh_item(module, f"{k.name}_pack_{param.name}")
    return replace(k, name=name, inputs=(param,), outputs=(packed,),
                   body=(Parallel(vars_, (load, turn, store)),))  # fmt: skip
