"""The op kinds. Importing this package registers all of them."""

from ke_ir.ops.arith import Binary, Cast, Cmp, Select, Unary
from ke_ir.ops.base import REGISTRY, Invalid, Machine, Op, Operand, Scope, Stmt, register
from ke_ir.ops.memory import Accumulate, Full, Iota, Load, Store
from ke_ir.ops.shape import Broadcast, Dot, Expand, Permute, Reduce, Reshape, Scan

__all__ = [
    "REGISTRY", "Accumulate", "Binary", "Broadcast", "Cast", "Cmp", "Dot", "Expand", "Full",
    "Invalid", "Iota", "Load", "Machine", "Op", "Operand", "Permute", "Reduce", "Reshape", "Scan",
    "Scope", "Select", "Stmt", "Store", "Unary", "register",
]  # fmt: skip
