"""Which bf16 values of a program are parts of f32 values, and which products add up to one of f32.

``split_dot`` writes a product of f32 values out as products of bf16 parts, and ``pack_parts``
stores the parts: their dtype is bf16, what they stand for is not. Parts are told by how they are
made: each is what the ones before leave of a value, rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ke_ir.ir import statements
from ke_ir.ops import Binary, Broadcast, Cast, Dot, Expand, Load, Permute, Reshape, Store
from ke_ir.ops.base import Op, Operand
from ke_ir.rewrites.split_operand import PRODUCTS
from ke_ir.types import DType

if TYPE_CHECKING:
    from ke_ir.ir import Kernel, Module, Program

Part = tuple[str, int]
"""The value that it is a part of, and which: 0 is the largest."""


@dataclass
class Parts:
    """By kernel and value. ``values`` and the program's ``temps`` are parts; ``products`` are those
    of parts, with the precision that the last of a sum stands for, and empty for the others.
    """

    values: set[tuple[str, str]] = field(default_factory=set)
    temps: set[str] = field(default_factory=set)
    products: dict[tuple[str, str], str] = field(default_factory=dict)


def parts_of(module: Module, program: Program) -> Parts:
    """Parts whose every use is in sums of products that a precision stands for."""
    stored: dict[str, Part] = {}
    kernels: list[_OfKernel] = []
    for call in program.calls:
        k = module.kernels[call.kernel]
        named = {p.name: v.tensor for p, v in
                 zip((*k.inputs, *k.outputs), (*call.args, *call.outs), strict=True)}  # fmt: skip
        one = _OfKernel(k, {p: stored[t] for p, t in named.items() if t in stored})
        stored |= {named[p]: part for p, part in one.stored.items()}
        kernels.append(one)
    whole = {v for k in kernels for v in k.multiplied} - {v for k in kernels for v in k.misused}
    out = Parts(temps={t for t, (v, _) in stored.items() if v in whole and t in program.temps})
    for one in kernels:
        out.values |= {(one.name, n) for n, (v, _) in one.parts.items() if v in whole}
        for name, (word, values) in one.products.items():
            if values <= whole:
                out.products[one.name, name] = word
    return out


class _OfKernel:
    """The parts in one kernel. ``given``: what its inputs hold parts of.

    ``products`` has, for each product of parts in a whole sum, what it stands for and of which
    values; ``multiplied`` are these values, ``misused`` those whose parts are used otherwise.
    """

    def __init__(self, k: Kernel, given: dict[str, Part]) -> None:
        self.name, self.given = k.name, given
        self.parts: dict[str, Part] = {}
        self.stored: dict[str, Part] = {}
        self.rounded: dict[str, str] = {}  # what each part was rounded from
        self.wide: dict[str, str] = {}  # parts in f32 again, and which they are
        self.left: dict[str, Part] = {}  # what the parts up to one leave of a value
        self.dots: dict[str, Dot] = {}
        self.misused: set[str] = set()
        for s in statements(k.body):
            if isinstance(s, Op) and not self._seen(s):
                used = {self.wide.get(x, x) for x in s.operands() if isinstance(x, str)}
                self.misused |= {self.parts[x][0] for x in used if x in self.parts}
        self.products: dict[str, tuple[str, set[str]]] = {}
        self.multiplied: set[str] = set()
        for last in self.dots.keys() - {str(d.acc) for d in self.dots.values()}:
            self._sum(last)

    def _seen(self, s: Op) -> bool:
        """Whether this is a step in making, storing or multiplying parts."""
        name = str(s.result)
        match s:
            case Load(tensor=t) if t in self.given:
                self.parts[name] = self.given[t]
            case Store(x=x, tensor=t) if x in self.parts:
                self.stored[t] = self.parts[str(x)]
            case Cast(x=x, dtype=DType.BF16) if x not in self.parts:
                value, i = self.left.get(str(x), (f"{self.name}.{x}", -1))
                self.parts[name], self.rounded[name] = (value, i + 1), str(x)
            case Cast(x=x, dtype=DType.F32) if x in self.rounded:
                self.wide[name] = str(x)
            case Binary("sub", x, y) if self.rounded.get(self.wide.get(str(y), "")) == x:
                self.left[name] = self.parts[self.wide[str(y)]]
            case Permute(x=x) | Expand(x=x) | Broadcast(x=x) | Reshape(x=x) if x in self.parts:
                self.parts[name] = self.parts[str(x)]
            case Dot(a=a, b=b) if a in self.parts and b in self.parts:
                self.dots[name] = s
            case _:
                return False
        return True

    def _sum(self, last: str) -> None:
        chain: list[Dot] = []
        at: Operand | None = last
        while str(at) in self.dots:
            chain.append(self.dots[str(at)])
            at = chain[-1].acc
        pairs = [(self.parts[str(d.a)], self.parts[str(d.b)]) for d in chain]
        values = {v for pair in pairs for v, _ in pair}
        same = len({(a, b) for (a, _), (b, _) in pairs}) == 1
        taken = sorted((i, j) for (_, i), (_, j) in pairs)
        word = next((w for w, p in PRODUCTS.items() if same and sorted(p) == taken), "")
        if word:
            self.multiplied |= values
            self.products |= {str(d.result): ("", values) for d in chain} | {last: (word, values)}
        else:
            self.misused |= values
