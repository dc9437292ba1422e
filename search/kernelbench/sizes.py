"""Inputs of a problem at other sizes than it asks for. Used in worker processes only.

A problem's ``get_inputs`` says its sizes where it makes tensors: ``torch.rand(16, 64, 512, 512)``.
While ``Sizes`` is on, those are replaced, so that inputs of 17 GB are never made, and what else the
function does with them (a triangle, a sum to one) still holds. The module keeps its weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

Position = tuple[int, int]
"""Which tensor that is made, counted from 0, and which of its dimensions."""

_SIZES_FIRST = ("rand", "randn", "zeros", "ones", "empty")
_BATCHES = (3, 16)
"""What the first dimension is tried with before those."""
_EXTENTS = {1: (200,), 2: (72, 136), 3: (40, 72, 136), 4: (24, 32, 64, 128), 5: (16, 32, 64)}
"""By the rank of the largest tensor. The smallest are no powers of two, and of several tiles where
that takes little time."""
_MANY = 64
_FEW = (4, 8, 16)
"""A batch that is larger than the problem's, and the extents of its samples."""
_MOST_TRIES = 600
_MOST_ELEMENTS = 1 << 28


class Sizes(TorchFunctionMode):  # type: ignore[misc]
    """While on, tensors are made with the sizes that ``chosen`` has for their dimensions.

    ``asked`` notes the sizes that were asked for.
    """

    def __init__(self, chosen: Mapping[Position, int] | None = None) -> None:
        super().__init__()
        self.chosen = dict(chosen or {})
        self.asked: dict[Position, int] = {}
        self._made = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Do what was asked, at other sizes where it makes a tensor."""
        named = dict(kwargs or {})
        found = _place(getattr(func, "__name__", ""), args, named)
        if found is None:
            return func(*args, **named)
        before, size, after = found
        new = []
        for dim, n in enumerate(size):
            self.asked[self._made, dim] = int(n)
            new.append(self.chosen.get((self._made, dim), int(n)))
        self._made += 1
        named.pop("size", None)
        return func(*before, tuple(new), *after, **named)


def _place(name: str, args: Any, named: Mapping[str, Any]) -> tuple[Any, Any, Any] | None:
    """Arguments before the size, the size, and those after it; None if nothing is made."""
    if name in _SIZES_FIRST:
        size = named.get("size", args[0] if len(args) == 1 and _is_size(args[0]) else args)
        return (), size, ()
    if name == "full":
        size, rest = (named["size"], args) if "size" in named else (args[0], args[1:])
        return (), size if _is_size(size) else (size,), rest
    if name == "randint":
        if "size" in named:
            return args, named["size"], ()
        at = next((i for i, a in enumerate(args) if _is_size(a)), None)
        return None if at is None else (args[:at], args[at], args[at + 1 :])
    return None


def _is_size(value: Any) -> bool:
    return isinstance(value, (tuple, list))


def asked_sizes(get_inputs: Callable[[], Any]) -> dict[Position, int]:
    """The sizes that ``get_inputs`` asks for. Nothing is allocated."""
    sizes = Sizes()
    with FakeTensorMode(), sizes:
        get_inputs()
    return sizes.asked


def groups(
    asked: Mapping[Position, int], runs: Callable[[Mapping[Position, int]], bool]
) -> list[list[Position]]:
    """Dimensions that may change, those in one group together; ``runs`` says of sizes if they do.

    Equal ones at the same place change together, as those of a batch do. Of those that cannot
    change alone, all that are equal are tried together, wherever they are.
    """
    by_place: dict[tuple[int, int], list[Position]] = {}
    for position, n in asked.items():
        by_place.setdefault((n, position[1]), []).append(position)
    free: list[list[Position]] = []
    fixed: dict[int, list[Position]] = {}
    for (n, _), members in by_place.items():
        if _shrinks(asked, members, runs):
            free.append(members)
        else:
            fixed.setdefault(n, []).extend(members)
    return free + [members for members in fixed.values() if _shrinks(asked, members, runs)]


def _shrinks(
    asked: Mapping[Position, int],
    members: Sequence[Position],
    runs: Callable[[Mapping[Position, int]], bool],
) -> bool:
    *less, _ = _levels(asked, members)
    return bool(less) and runs(dict.fromkeys(members, less[-1]))


def more_samples(
    asked: Mapping[Position, int],
    free: Sequence[Sequence[Position]],
    runs: Callable[[Mapping[Position, int]], bool],
) -> Iterator[dict[Position, int]]:
    """Sizes with a larger batch than asked for, of small samples; those of fewest elements first.

    Statistics over a batch of two or three may be of elements that nearly agree.
    """
    batches: dict[int, list[Position]] = {}
    for position, n in asked.items():
        if position[1] == 0 and n < _MANY:
            batches.setdefault(n, []).append(position)
    grown = [b for b in batches.values() if runs(dict.fromkeys(b, _MANY))]
    if not grown:
        return iter(())
    many = {p: _MANY for b in grown for p in b}
    rest = [g for g in free if not many.keys() & set(g)]
    fewer = [[m + asked[g[0]] % 8 for m in _FEW if m < asked[g[0]]] or [asked[g[0]]] for g in rest]
    return _ascending({**asked, **many}, rest, fewer)


def smaller(
    asked: Mapping[Position, int], free: Sequence[Sequence[Position]]
) -> Iterator[dict[Position, int]]:
    """Smaller sizes to try, those of fewest elements first and the full ones last."""
    return _ascending(asked, free, [_levels(asked, g) for g in free])


def _ascending(
    asked: Mapping[Position, int],
    free: Sequence[Sequence[Position]],
    levels: Sequence[Sequence[int]],
) -> Iterator[dict[Position, int]]:
    found = []
    for picked in itertools.product(*levels):
        sizes = dict(asked)
        sizes.update((p, n) for g, n in zip(free, picked, strict=True) for p in g)
        found.append((elements(sizes), sizes))
    found.sort(key=lambda pair: pair[0])
    return (sizes for count, sizes in found[:_MOST_TRIES] if count <= _MOST_ELEMENTS)


def _levels(asked: Mapping[Position, int], members: Sequence[Position]) -> list[int]:
    """Sizes for a group, ascending, its own last; all but batches keep what 8 leaves of it."""
    extents = _EXTENTS[min(1 + max(dim for _, dim in asked), max(_EXTENTS))]
    n, batch = asked[members[0]], all(dim == 0 for _, dim in members)
    less = [*_BATCHES, *extents] if batch else [m + n % 8 for m in extents]
    return [*(m for m in less if m < n), n]


def elements(sizes: Mapping[Position, int]) -> int:
    """Elements of all tensors of these sizes."""
    shapes: dict[int, list[int]] = {}
    for (tensor, _), n in sizes.items():
        shapes.setdefault(tensor, []).append(n)
    return sum(math.prod(shape) for shape in shapes.values())
