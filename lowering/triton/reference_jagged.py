"""Reductions in ``reference()`` over ranges that differ from place to place, as in jagged rows.

All elements of all ranges lie in one flat axis, and ``index_add`` and its kin combine those of
each place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ke_ir.expr import Num, Range, Reduce, variables
from ke_ir.types import DType
from lowering.triton.writer import tuple_text

if TYPE_CHECKING:
    from lowering.triton.reference import Reference, Tensor

_START = {"sum": "0", "prod": "1", "max": 'float("-inf")', "min": 'float("inf")'}
_PLAIN = {"float": "torch.float64", "int": "torch.int64", "bool": "torch.bool"}


def jagged(ref: Reference, e: Reduce, axes: tuple[str, ...]) -> Tensor:
    """A reduction as a tensor over ``axes``. Several ranges are reduced one inside the other."""
    from lowering.triton.reference_reduce import reduction

    if len(e.ranges) > 1:
        first, *rest = e.ranges
        return reduction(ref, replace(e, ranges=(first,), body=replace(e, ranges=(*rest,))), axes)
    (r,) = e.ranges
    lo, hi = r.lo or Num(0), r.hi or Num(0)
    used = {ref.axis(n) for n in (*variables(lo), *variables(hi))}
    rows = tuple(n for n in axes if n in used)
    row, at = _flat_elements(ref, r, rows)
    flat = f"{r.name} flat"
    inner = (flat, *(n for n in axes if n not in rows))
    saved = dict(ref.flat)
    ref.flat_sizes[flat] = f"{at}.numel()"
    ref.flat.update(_row_indices(ref, rows, row, flat))
    ref.flat[r.name] = (at, flat)
    body = ref.translate(e.body, inner)
    ref.flat = saved
    body = _all_flat(ref, body, inner)
    others = inner[1:]
    part = ref.names.new("part")
    narrow = ".long()" if body.kind == "bool" else ""
    ref.lines.append(f"{part} = {body.at(9) if narrow else body.text}{narrow}")
    places = _Places(row, at, rows, others, body.kind)
    total = places.reduced(ref, e.kind, part)
    kind, dtype = body.kind, body.dtype
    if e.kind in ("argmax", "argmin"):
        kind, dtype = "int", DType.I64
    return ref._placed(
        replace(body, text=total, kind=kind, dtype=dtype, level=9), (*rows, *others), axes
    )


def _flat_elements(ref: Reference, r: Range, rows: tuple[str, ...]) -> tuple[str, str]:
    """Write the lines that make the flat axis.

    Returns the names of ``row``, the place that each element belongs to, and of its index.
    """
    ref.device = "device"
    first = ref.full(ref.translate(r.lo or Num(0), rows), rows)
    last = ref.full(ref.translate(r.hi or Num(0), rows), rows)
    start, count, row, at = (ref.names.new(n) for n in ("start", "count", "row", r.name))
    flat = "" if len(rows) == 1 else ".flatten()"
    ref.lines += [
        f"{start} = {first.at(9)}{flat}",
        f"{count} = ({last.at(5)}{flat} - {start}).clamp(min=0)",
        f"{row} = torch.arange({count}.numel(), device=device).repeat_interleave({count})",
        f"{at} = torch.arange({row}.numel(), device=device)",
        f"{at} = {at} - ({count}.cumsum(0) - {count})[{row}] + {start}[{row}]",
    ]
    return row, at


def _row_indices(
    ref: Reference, rows: tuple[str, ...], row: str, flat: str
) -> dict[str, tuple[str, str]]:
    """The indices of the place that each flat element belongs to."""
    out: dict[str, tuple[str, str]] = {}
    rest = row
    for i, n in reversed(list(enumerate(rows))):
        name = row
        if len(rows) > 1:
            name = ref.names.new(f"{row}_{n.split()[0]}")
            size = ref._extent(n)
            ref.lines.append(f"{name} = {rest}" + (f" % {size}" if i else ""))
            rest = f"({rest}) // {size}" if "//" in rest else f"{rest} // {size}"
        # A place may itself be a flat element: of its indices, those of this one are picked.
        picked = {v: (f"{text}[{name}]", flat) for v, (text, axis) in ref.flat.items() if axis == n}
        out.update(picked or {n: (name, flat)})
    return out


def _all_flat(ref: Reference, body: Tensor, inner: tuple[str, ...]) -> Tensor:
    """The body with its true size along the flat axis and the others."""
    if body.axes == set(inner) and body.rank == len(inner):
        return body
    shape = tuple_text([ref._extent(n) for n in inner])
    text = body.text
    if body.plain:
        text = f"torch.tensor({text}, dtype={_PLAIN[body.kind]}, device=device)"
    return replace(body, text=f"torch.broadcast_to({text}, {shape})", plain=False,
                   axes=frozenset(inner), rank=len(inner), level=9)  # fmt: skip


class _Places:
    """Combines the flat elements of each place."""

    def __init__(
        self, row: str, at: str, rows: tuple[str, ...], others: tuple[str, ...], kind: str
    ) -> None:
        self.row, self.at, self.rows, self.others, self.kind = row, at, rows, others, kind

    def reduced(self, ref: Reference, kind: str, part: str) -> str:
        """The name of the result, whose dimensions are the places', then the other axes."""
        if kind in ("any", "all"):
            # Over integers 0 and 1; a place without elements keeps the start, which is beyond.
            text = self._scattered(ref, "max" if kind == "any" else "min", part, whole=True)
            text += " > 0"
        elif kind in ("argmax", "argmin"):
            best = ref.names.new("best")
            ref.lines.append(f"{best} = {self._scattered(ref, kind[3:], part, flat=True)}")
            at = f"{self.at}[:{', None' * len(self.others)}]"
            first = ref.names.new("first")
            past = "torch.iinfo(torch.int64).max"
            ref.lines.append(f"{first} = torch.where({part} == {best}[{self.row}], {at}, {past})")
            text = self._scattered(ref, "min", first, whole=True)
        else:
            text = self._scattered(ref, kind, part, whole=self.kind != "float")
        name = ref.names.new("total")
        ref.lines.append(f"{name} = {text}")
        return name

    def _scattered(
        self, ref: Reference, kind: str, part: str, *, whole: bool = False, flat: bool = False
    ) -> str:
        """The scatter itself; ``whole`` for integers, ``flat`` leaves the places in one axis."""
        start = _START[kind]
        if "inf" in start and (whole or self.kind != "float"):
            start = f"torch.iinfo(torch.int64).{'min' if kind == 'max' else 'max'}"
        count = " * ".join(ref._extent(n) for n in self.rows) or "1"
        shape = tuple_text([count, *map(ref._extent, self.others)])
        text = f"torch.full({shape}, {start}, dtype={part}.dtype, device=device)"
        if kind == "sum":
            text += f".index_add_(0, {self.row}, {part})"
        else:
            how = {"max": "amax", "min": "amin"}.get(kind, kind)
            text += f'.index_reduce_(0, {self.row}, {part}, "{how}")'
        if len(self.rows) != 1 and not flat:
            text += f".reshape({tuple_text([ref._extent(n) for n in (*self.rows, *self.others)])})"
        return text
