"""Operands in the order in which they are read: stored transposed before the kernel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.derive.tiles import power
from ke_ir.expr import Bin, Expr, Num, Var, variables
from ke_ir.ir import For, Kernel, LoopVar, Module, Parallel, Param, Temp
from ke_ir.ops import Dot, Load, Permute, Store
from ke_ir.ops.base import Stmt
from ke_ir.rewrites import base
from ke_ir.rewrites.base import NoMatch, Rewrite, register_rewrite, tensor, word
from ke_ir.rewrites.body import Facts, facts
from ke_ir.rewrites.names import Fresh
from ke_ir.rewrites.padding import origin
from ke_ir.rewrites.programs import fresh_item, in_sequence, is_given
from ke_ir.types import TensorType, TileType

TILE = 64
"""Rows and columns of a tile that is transposed."""


@register_rewrite
@dataclass(frozen=True)
class Pack(Rewrite):
    """Copy an operand before the kernel reads it, with the dimension that is summed over last.

    Matrix units read fastest what is contiguous along the summed index: a matrix is transposed, the
    channels of a convolution's image and weights come last. ``once``: for weights, whose packing is
    reported apart from the kernel's time; ``each``: with every call. What no product reads itself
    has its last two dimensions exchanged.

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
      parallel %i0 = 0 to K tile 64, %i1 = 0 to N tile 64 {
        %v = load %w[%i0, %i1] : f32[64, 64]
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
          %v_1 = load %w_packed[%n, %k] : f32[4, 8]
          %v = permute %v_1 [1, 0]
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
        f = facts(k)
        rank = len(param.type.shape)
        places = {place for name, place in _summed(f) if name == self.tensor} or {rank - 2}
        if len(places) != 1:
            return NoMatch(f"products sum over several dimensions of %{self.tensor}")
        (place,) = places
        if all(n == Num(1) for n in param.type.shape[place + 1 :]):
            return NoMatch(f"%{self.tensor} lies in memory along the index that is summed over")
        fresh = Fresh(k)
        shape = _last(param.type.shape, place)
        packed = Param(fresh(f"{self.tensor}_packed"), TensorType(param.type.dtype, shape))
        body = _Reader(f, self.tensor, packed.name, place, fresh).block(k.body)
        if isinstance(body, NoMatch):
            return body
        inputs = tuple(packed if p is param else p for p in k.inputs)
        reader = replace(
            k, name=fresh_item(module, f"{k.name}_packed"), inputs=inputs, body=body,
        )  # fmt: skip
        packer = _packer(fresh_item(module, f"{k.name}_pack_{param.name}"), k, param, packed, place)
        first = (packer,) if self.when == "each" else ()
        once = (packer,) if self.when == "once" else ()
        return in_sequence(
            module, k.name, (*first, reader), (Temp(packed.name, packed.type),), once
        )

    @classmethod
    def applicable(cls, module: Module) -> Iterator[Self]:
        for k in module.kernels.values():
            for name in dict.fromkeys(name for name, _ in _summed(facts(k))):
                for when in ("once", "each"):
                    made = cls(k.name, name, when)
                    if not isinstance(made.apply(module), NoMatch):
                        yield made


def _summed(f: Facts) -> Iterator[tuple[str, int]]:
    """Tensors that a ``dot`` reads, and the dimension over which it sums."""
    for _, s in f.statements:
        if isinstance(s, Dot):
            for x, inner in ((s.a, -1), (s.b, -2)):
                load = f.definitions.get(origin(f, x))
                axis = f.axes.of(str(x))[inner]
                if isinstance(load, Load):
                    for place, c in enumerate(load.coords):
                        if any(f.axes.of_loop(n) == axis for n in variables(c)):
                            yield load.tensor, place


def _last(xs: Sequence[Expr], place: int) -> tuple[Expr, ...]:
    """With the one at a place moved to the end."""
    return (*xs[:place], *xs[place + 1 :], xs[place])


class _Reader:
    """Makes the loads of a tensor loads of its copy, which has one dimension moved to its end."""

    def __init__(self, f: Facts, name: str, packed: str, place: int, fresh: Fresh) -> None:
        self.name, self.packed, self.place, self.fresh = name, packed, place, fresh
        self.tiles = {n: s.var.tile for n, s in f.loops.items()}

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
        if not all(n in self.tiles for c in s.coords for n in variables(c)):
            return NoMatch(f"coordinates of %{s.tensor} are not all of loop variables")
        coords = _last(s.coords, self.place)
        old, new = self.tiled(s.coords), self.tiled(coords)
        if old == new:
            return [replace(s, tensor=self.packed, coords=coords)]
        turned = s.type.with_shape(tuple(s.type.shape[old.index(n)] for n in new))
        load = replace(
            s, tensor=self.packed, coords=coords, type=turned, result=self.fresh(str(s.result))
        )
        order = tuple(new.index(n) for n in old)
        return [load, Permute(str(load.result), order, result=s.result)]

    def tiled(self, coords: Iterable[Expr]) -> list[str]:
        """The index tiles of coordinates in the order of the dimensions of what is loaded."""
        names = dict.fromkeys(n for c in coords for n in variables(c))
        return [n for n in names if self.tiles[n] is not None]


def _packer(name: str, k: Kernel, param: Param, packed: Param, place: int) -> Kernel:
    """The kernel that stores the copy, a tile of two dimensions at a time.

    Dimensions behind the one that moves are walked as one where the last of them is short.
    """
    outer = replace(k, name=name, inputs=(param,), outputs=(packed,), body=())
    fresh = Fresh(outer)
    shape = param.type.shape
    behind = [int(n.value) for n in shape[place + 1 :] if isinstance(n, Num)]
    together = len(behind) == len(shape) - place - 1 > 1 and behind[-1] < TILE
    loops = [*shape[: place + 1], *([Num(math.prod(behind))] if together else shape[place + 1 :])]
    tiled = (place, len(loops) - 1)
    vars_ = tuple(
        LoopVar(fresh(f"i{i}"), Num(0), n, _tile(n) if i in tiled else None)
        for i, n in enumerate(loops)
    )
    coords: list[Expr] = [Var(v.name) for v in vars_]
    if together:
        coords[-1:] = _unravelled(coords[-1], behind)
    load = Load(param.name, tuple(coords), TileType(param.type.dtype, tuple(
        v.tile for v in vars_ if v.tile is not None
    )), result=fresh("v"))  # fmt: skip
    turn = Permute(str(load.result), (1, 0), result=fresh("t"))
    store = Store(str(turn.result), packed.name, _last(coords, place))
    return replace(outer, body=(Parallel(vars_, (load, turn, store)),))


def _tile(size: Expr) -> int:
    """The tile of an index: of a short one, the next power of two."""
    return min(TILE, power(int(size.value))) if isinstance(size, Num) else TILE


def _unravelled(index: Expr, sizes: Sequence[int]) -> list[Expr]:
    """The places along dimensions of these sizes, from the place in all of them together."""
    out: list[Expr] = []
    for i, size in enumerate(sizes):
        inner = math.prod(sizes[i + 1 :])
        place = Bin("//", index, Num(inner)) if inner > 1 else index
        out.append(Bin("%", place, Num(size)) if i else place)
    return out
