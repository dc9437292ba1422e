"""Neighbouring coordinates that are the places of one index, as that index.

A loop over several dimensions together reads ``x[i // 7, i % 7]``: in memory, where the dimensions
lie behind each other, that is place ``i``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ke_ir.expr import Bin, Expr, Num


def raveled(
    coords: Sequence[Expr], shape: Sequence[Expr]
) -> tuple[tuple[Expr, ...], tuple[Expr, ...]]:
    """Coordinates and sizes with such neighbours as one; equal in place and in what is inside."""
    out: list[tuple[Expr, Expr]] = []
    for c, size in zip(reversed(coords), reversed(shape), strict=True):
        both = _together(c, size, *out[-1]) if out else None
        if both is None:
            out.append((c, size))
        else:
            out[-1] = both
    return tuple(c for c, _ in reversed(out)), tuple(n for _, n in reversed(out))


def _together(high: Expr, rows: Expr, low: Expr, columns: Expr) -> tuple[Expr, Expr] | None:
    """The one coordinate and size that ``[high, low]`` are in ``[rows, columns]``, if they are."""
    if not (isinstance(rows, Num) and isinstance(columns, Num)):
        return None
    size = Num(rows.value * columns.value)
    match high, low:
        case Bin("//", index, by), Bin("%", other, to) if index == other and by == to == columns:
            return index, size
        case (
            Bin("%", Bin("//", index, by), within),
            Bin("%", other, to),
        ) if index == other and by == to == columns and within == rows:
            return Bin("%", index, size), size
    return None
