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
_EXTENTS = (16, 32, 64, 128)
_MOST_TRIES = 600
_MOST_ELEMENTS = 1 << 25


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


def smaller(asked: Mapping[Position, int]) -> Iterator[dict[Position, int]]:
    """Smaller sizes to try, those of fewest elements first and the full ones last.

    Dimensions at the same place change together where they are equal, as those of a batch; after
    that all that are equal, wherever they are, for they may have to be.
    """
    by_place: dict[tuple[int, int], list[Position]] = {}
    by_value: dict[int, list[Position]] = {}
    for position, n in asked.items():
        by_place.setdefault((n, position[1]), []).append(position)
        by_value.setdefault(n, []).append(position)
    for groups in (list(by_place.values()), list(by_value.values())):
        yield from itertools.islice(_combinations(asked, groups), _MOST_TRIES)


def _combinations(
    asked: Mapping[Position, int], groups: Sequence[Sequence[Position]]
) -> Iterator[dict[Position, int]]:
    levels = [_levels(asked[g[0]], all(dim == 0 for _, dim in g)) for g in groups]
    found = []
    for picked in itertools.product(*levels):
        sizes = {p: n for g, n in zip(groups, picked, strict=True) for p in g}
        found.append((_elements(sizes), sizes))
    found.sort(key=lambda pair: pair[0])
    return (sizes for count, sizes in found if count <= _MOST_ELEMENTS)


def _levels(n: int, batch: bool) -> list[int]:
    """Sizes below ``n``, and it itself; all but batches keep what 8 leaves of it."""
    found = _BATCHES if batch else [m + n % 8 for m in _EXTENTS]
    return [m for m in found if m < n] + [n]


def _elements(sizes: Mapping[Position, int]) -> int:
    """Elements of all tensors of these sizes."""
    shapes: dict[int, list[int]] = {}
    for (tensor, _), n in sizes.items():
        shapes.setdefault(tensor, []).append(n)
    return sum(math.prod(shape) for shape in shapes.values())
