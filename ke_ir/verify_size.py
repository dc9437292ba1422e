"""Sizes: integer expressions of dims, as they stand in tensor types and views."""

from __future__ import annotations

from collections.abc import Mapping

from ke_ir.diagnostics import Loc, Reporter, near
from ke_ir.expr import Expr, evaluate_int
from ke_ir.ops.base import Invalid
from ke_ir.scope import check_integer

MAX_SIZE = 1 << 40


def checked_size(
    e: Expr, known: Mapping[str, int], loc: Loc | None, report: Reporter
) -> int | None:
    """Value of a size expression; None, with a diagnostic, if it has none."""
    try:
        check_integer(e)
        return evaluate_int(e, known)
    except Invalid as bad:
        report.error(bad.code, str(bad), e.loc or loc, bad.expected, bad.hint)
    except KeyError as missing:
        name = str(missing.args[0])
        hint = near(name, known) or f"declare it: `dims {name} = SIZE`"
        report.error("unknown-dim", f"there is no dim `{name}`", e.loc or loc, sorted(known), hint)
    except ValueError as bad_value:
        report.error("size", str(bad_value), e.loc or loc)
    return None


def check_shape(
    name: str, shape: tuple[Expr, ...], known: Mapping[str, int], loc: Loc | None, report: Reporter
) -> bool:
    """True if each size of a tensor has a value that a tensor can have."""
    ok = True
    for e in shape:
        size = checked_size(e, known, loc, report)
        if size is not None and not 1 <= size < MAX_SIZE:
            report.error("size", f"`{name}` has a dimension of size {size}", loc,
                         [f"sizes from 1 to {MAX_SIZE - 1}"])  # fmt: skip
            size = None
        ok = ok and size is not None
    return ok
