"""Reductions in ``reference()``: ``einsum`` for contractions, ``conv`` where one is recognised, and
plain reductions for the rest. ``reference_jagged`` has those whose ranges depend on data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ke_ir.expr import Bin, Expr, Neg, Num, Reduce, Ref, Var, variables
from ke_ir.types import DType
from lowering.triton.bounds import Poly
from lowering.triton.writer import tuple_text

if TYPE_CHECKING:
    from lowering.triton.reference import Reference, Tensor

_METHODS = {"sum": "sum", "max": "amax", "min": "amin"}
_ONE_BY_ONE = ("prod", "any", "all")


def reduction(ref: Reference, e: Reduce, axes: tuple[str, ...]) -> Tensor:
    """A reduction as a tensor over ``axes``."""
    from lowering.triton.reference import bounds_depend
    from lowering.triton.reference_jagged import jagged
    from lowering.triton.reference_scan import scan

    if any(bounds_depend(r, axes) for r in e.ranges):
        return scan(ref, e, axes) or jagged(ref, e, axes)
    if e.kind == "sum":
        written = len(ref.lines)
        made = _convolution(ref, e, axes) or _contraction(ref, e, axes)
        if made is not None:
            return made
        del ref.lines[written:]
    names = tuple(r.name for r in e.ranges)
    body = ref.translate(e.body, (*axes, *names))
    body = _extended(ref, body, axes, names)
    out = _reduced(e.kind, body, names)
    if e.kind in ("argmax", "argmin") and (lo := e.ranges[0].lo) not in (None, Num(0)):
        out = ref._binary("+", out, ref.translate(lo, axes))  # the index, not its place
    return out


def _extended(
    ref: Reference, body: Tensor, axes: tuple[str, ...], names: tuple[str, ...]
) -> Tensor:
    """The body with its true size along the reduced axes, even where it does not depend on them."""
    if body.rank >= len(names) and set(names) <= body.axes:
        return body
    own = [a for a in axes if a in body.axes]
    used = axes[axes.index(own[0]) :] if own else ()
    shape = tuple_text([ref._extent(a) if a in body.axes or a in names else "1"
                        for a in (*used, *names)])  # fmt: skip
    if body.plain:
        ref.device = "device"
        dtype = "torch.float64" if body.kind == "float" else "torch.int64"
        text = f"torch.full({shape}, {body.text}, dtype={dtype}, device=device)"
    else:
        text = f"torch.broadcast_to({body.text}, {shape})"
    return replace(body, text=text, axes=frozenset((*own, *names)), plain=False, level=9,
                   rank=len(used) + len(names))  # fmt: skip


def _reduced(kind: str, body: Tensor, names: tuple[str, ...]) -> Tensor:
    x, n = body.at(9), len(names)
    out_kind, dtype = body.kind, body.dtype
    if kind in _METHODS:
        dims = "-1" if n == 1 else "(" + ", ".join(str(i - n) for i in range(n)) + ")"
        text = f"{x}.{_METHODS[kind]}(dim={dims})"
    elif kind in _ONE_BY_ONE:
        text = x + f".{kind}(dim=-1)" * n
    else:
        flat = x if n == 1 else f"{x}.flatten({-n})"
        text, out_kind, dtype = f"{flat}.{kind}(dim=-1)", "int", DType.I64
    if kind in ("any", "all"):
        out_kind, dtype = "bool", DType.I1
    if kind == "sum" and body.kind != "float":
        out_kind, dtype = "int", DType.I64
    return replace(body, text=text, kind=out_kind, dtype=dtype, level=9,
                   axes=body.axes - set(names), rank=body.rank - n)  # fmt: skip


# -- contractions ------------------------------------------------------------------------------
def factors(e: Expr) -> list[Expr]:
    """The factors of a product."""
    if isinstance(e, Bin) and e.op == "*":
        return [*factors(e.lhs), *factors(e.rhs)]
    return [e]


def _contraction(ref: Reference, e: Reduce, axes: tuple[str, ...]) -> Tensor | None:
    """A sum of products over tensors as an ``einsum``; None when it is something else."""
    names = tuple(r.name for r in e.ranges)
    every = (*axes, *names)
    tensors, scalars = [], []
    if len(factors(e.body)) < 2:
        return None
    for f in factors(e.body):
        own = tuple(n for n in every if n in _axes(ref, f))
        t = ref.translate(f, own)
        if t.plain:
            scalars.append(t)
        elif t.kind != "float" or t.axes != set(own) or t.rank != len(own):
            return None
        else:
            tensors.append((f, own, t))
    if len(tensors) < 2 or not all(any(n in own for _, own, _ in tensors) for n in names):
        return None
    if sum(any(n in own for n in names) for _, own, _ in tensors) < 2:
        return None
    if all(n in own for _, own, _ in tensors for n in axes):
        return None  # nothing is contracted that a product and a sum would not do as well
    return _einsum(ref, axes, every, tensors, scalars)


def _axes(ref: Reference, e: Expr) -> set[str]:
    """The axes that an expression's free indices run along."""
    bound = {r.name for n in _reduces(e) for r in n.ranges}
    return {ref.axis(n) for n in variables(e) if n not in bound}


def _reduces(e: Expr) -> list[Reduce]:
    from ke_ir.expr import walk

    return [n for n in walk(e) if isinstance(n, Reduce)]


def _einsum(
    ref: Reference,
    axes: tuple[str, ...],
    every: tuple[str, ...],
    tensors: list[tuple[Expr, tuple[str, ...], Tensor]],
    scalars: list[Tensor],
) -> Tensor:
    from lowering.triton.reference import promoted

    letter: dict[str, str] = {}
    for n in every:
        free = (
            c for c in (n[0].lower(), *"abcdefghijklmnopqrstuvwxyz") if c not in letter.values()
        )
        letter[n] = next(free)
    dtype: DType | None = None
    for _, _, t in tensors:
        dtype = promoted(dtype, t.dtype)
    subscripts, operands = [], []
    for f, own, t in tensors:
        order, text = own, t.text
        if isinstance(f, Ref) and ref.is_plain(f):
            # As it lies in memory: einsum permutes by itself.
            order = tuple(i.name for i in f.indices if isinstance(i, Var))
            text = ref.tensors[f.tensor].text
        subscripts.append("".join(letter[n] for n in order))
        if t.dtype is not dtype:
            others = [u.text for _, _, u in tensors if u.dtype is dtype]
            common = f"torch.promote_types({t.at(9)}.dtype, {others[0]}.dtype)" if others else (
                "torch.float32")  # fmt: skip
            text = f"{t.at(9)}.to({common})" if text == t.text else f"{text}.to({common})"
        operands.append(text)
    present = [n for n in axes if any(n in own for _, own, _ in tensors)]
    result = "".join(letter[n] for n in present)
    plain = _matmul(subscripts, result, operands)
    text = plain or f'torch.einsum("{",".join(subscripts)}->{result}", {", ".join(operands)})'
    base = replace(tensors[0][2], text=text, dtype=dtype, level=4 if plain else 9)
    if plain and tuple(present) == axes:
        return replace(base, axes=frozenset(axes), rank=2)
    base = replace(base, text=base.at(9), level=9)
    out = ref._placed(base, tuple(present), axes)
    for s in scalars:
        out = ref._binary("*", out, s)
    return out


def _matmul(subscripts: list[str], result: str, operands: list[str]) -> str:
    """Two matrices as ``a @ b``; empty for any other contraction."""
    if len(result) != 2 or [len(s) for s in subscripts] != [2, 2]:
        return ""
    (a, b), m, n = operands, result[0], result[1]
    first, second = subscripts
    if n in first:
        (first, second), (a, b) = (second, first), (b, a)
    shared = (set(first) & set(second)) - set(result)
    if len(shared) != 1 or m not in first or n not in second:
        return ""
    return f"{a if first[0] == m else f'{a}.T'} @ {b if second[1] == n else f'{b}.T'}"


# -- convolutions ------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Window:
    """A coordinate ``stride * outer + dilation * tap - padding`` of the input."""

    outer: str
    tap: str
    stride: int
    dilation: int
    padding: int


def _convolution(ref: Reference, e: Reduce, axes: tuple[str, ...]) -> Tensor | None:
    """``conv1d`` .. ``conv3d``: a window that slides over the last dimensions, zero outside."""
    refs = [f for f in factors(e.body) if isinstance(f, Ref)]
    if len(refs) != 2 or len(factors(e.body)) != 2:
        return None
    for x, w in (refs, refs[::-1]):
        made = _as_convolution(ref, e, axes, x, w)
        if made is not None:
            return made
    return None


def _as_convolution(
    ref: Reference, e: Reduce, axes: tuple[str, ...], x: Ref, w: Ref
) -> Tensor | None:
    depth = len(x.indices) - 2
    reduced = {r.name for r in e.ranges}
    if not 1 <= depth <= 3 or not ref.is_plain(w) or len(w.indices) != depth + 2:
        return None
    if x.fill is not None and x.fill not in (Num(0), Num(0.0)):
        return None
    windows = [_window(i, reduced) for i in x.indices[2:]]
    n, c = x.indices[:2]
    found = [v for v in windows if v is not None]
    if len(found) != depth or not isinstance(n, Var) or not isinstance(c, Var):
        return None
    taps = [i.name for i in w.indices if isinstance(i, Var)]
    wanted = (n.name, taps[0], *(v.outer for v in found))
    if axes != wanted or taps[1:] != [c.name, *(v.tap for v in found)]:
        return None
    if reduced != set(taps[1:]) or not _whole(ref, x, (n, c)) or any(v.padding < 0 for v in found):
        return None
    cuts = [_cut(ref, x, w, i, v) for i, v in enumerate(found)]
    if any(cut is None for cut in cuts):
        return None
    return _conv_call(ref, axes, x, w, found, [str(cut) for cut in cuts])


def _whole(ref: Reference, x: Ref, outer: tuple[Var, Var]) -> bool:
    shape = ref.found.shapes[x.tensor]
    return all(ref._covers(v.name, s) for v, s in zip(outer, shape[:2], strict=True))


def _window(e: Expr, reduced: set[str]) -> _Window | None:
    got = _linear(e)
    if got is None:
        return None
    terms, constant = got
    taps = [n for n in terms if n in reduced]
    outer = [n for n in terms if n not in reduced]
    if len(taps) != 1 or len(outer) != 1 or terms[taps[0]] < 1 or terms[outer[0]] < 1:
        return None
    return _Window(outer[0], taps[0], terms[outer[0]], terms[taps[0]], -constant)


def _linear(e: Expr) -> tuple[dict[str, int], int] | None:
    """Coefficients by index, and the constant, of a linear expression with literal factors."""
    match e:
        case Num(int() as value):
            return {}, value
        case Var(name):
            return {name: 1}, 0
        case Neg(arg):
            return _scaled(_linear(arg), -1)
        case Bin("+" | "-" as op, a, b):
            x, y = _linear(a), _scaled(_linear(b), 1 if op == "+" else -1)
            if x is None or y is None:
                return None
            terms = {n: x[0].get(n, 0) + y[0].get(n, 0) for n in {**x[0], **y[0]}}
            return {n: k for n, k in terms.items() if k}, x[1] + y[1]
        case Bin("*", Num(int() as k), x) | Bin("*", x, Num(int() as k)):
            return _scaled(_linear(x), k)
    return None


def _scaled(x: tuple[dict[str, int], int] | None, k: int) -> tuple[dict[str, int], int] | None:
    return None if x is None else ({n: c * k for n, c in x[0].items()}, x[1] * k)


def _cut(ref: Reference, x: Ref, w: Ref, i: int, v: _Window) -> str | None:
    """What to keep of the convolution's own output (":" is all of it); None if it is too small."""
    size = ref.bounds.exact(ref.found.shapes[x.tensor][2 + i])
    kernel = ref.bounds.exact(ref.found.shapes[w.tensor][2 + i])
    wanted = ref.bounds.exact(ref.ranges[v.outer][1])
    if size is None or kernel is None or wanted is None:
        return None
    # Last start of a window: size + 2 padding - dilation (taps - 1) - 1, in steps of stride.
    room = size + Poly.const(2 * v.padding - 1) - (kernel.plus(-1)) * Poly.const(v.dilation)
    needed = wanted.plus(-1) * Poly.const(v.stride)
    if not ref.bounds.at_most(needed, room):
        return None
    spare = (room - needed).value
    if spare is not None and spare < v.stride:
        return ":"
    return f":{ref._extent(v.outer)}"


def _conv_call(
    ref: Reference, axes: tuple[str, ...], x: Ref, w: Ref, windows: list[_Window], cuts: list[str]
) -> Tensor:
    from lowering.triton.reference import promoted

    tx, tw = ref.tensors[x.tensor], ref.tensors[w.tensor]
    args = [tx.text, tw.text]
    for name, default, values in (
        ("stride", 1, [v.stride for v in windows]),
        ("padding", 0, [v.padding for v in windows]),
        ("dilation", 1, [v.dilation for v in windows]),
    ):
        if any(v != default for v in values):
            same = len(set(values)) == 1
            args.append(f"{name}={values[0] if same else tuple(values)}")
    text = f"torch.nn.functional.conv{len(windows)}d({', '.join(args)})"
    if any(cut != ":" for cut in cuts):
        text += f"[..., {', '.join(cuts)}]"
    return replace(tx, text=text, axes=frozenset(axes), rank=len(axes), level=9,
                   dtype=promoted(tx.dtype, tw.dtype))  # fmt: skip
