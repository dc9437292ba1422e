"""A first correct kernel, or program of several, for any op.

``derive(op)`` gives the items to add to a module; ``with_derived(module)`` adds them for every op
that has no kernel or program of its name.
"""

from ke_ir.derive.assemble import derive, with_derived

__all__ = ["derive", "with_derived"]
