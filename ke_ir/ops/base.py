"""The op registry, and the field kinds and formats from which parser, printer and docs follow.

An op kind is one frozen dataclass deriving from ``Op``, decorated with ``@register``. It states

- ``mnemonics``: the words that begin it (several when ``fn`` chooses among them);
- ``format``: what follows, as literal words and ``$field`` references; ``(...)?`` is an optional
  group, printed when its first field differs from that field's default;
- fields made by ``operand() tensor() word() integer() ...``, whose kind says how each is read;
- ``infer``: the result type from the operand types, or a report of what is wrong;
- ``evaluate``: the meaning on numpy arrays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from ke_ir.diagnostics import Loc
from ke_ir.types import DType, TensorType, TileType

if TYPE_CHECKING:
    import numpy as np

    from ke_ir.expr import Expr

    Array = np.ndarray[Any, Any]

Operand = str | int | float | bool
"""An SSA value's name (without ``%``), or a literal that takes the other operand's dtype."""


class Invalid(Exception):
    """Raised where something is not well formed; the verifier makes a diagnostic of it.

    ``loc`` is set when the place is narrower than the statement being checked.
    """

    def __init__(
        self,
        code: str,
        message: str,
        expected: Sequence[str] = (),
        hint: str = "",
        loc: Loc | None = None,
    ) -> None:
        super().__init__(message)
        self.loc = loc
        self.code, self.message, self.expected, self.hint = code, message, tuple(expected), hint


class Scope(Protocol):
    """What ``infer`` may ask about the place where the op stands."""

    def type_of(self, operand: Operand) -> TileType | None:
        """Type of a value (raises Invalid when undefined); None for a literal."""
        ...

    def tensor(self, name: str) -> TensorType: ...

    def access_shape(self, coords: Sequence[Expr]) -> tuple[int, ...]:
        """Shape of the tile that these coordinates address."""
        ...

    def check_dims(self, e: Expr) -> None:
        """Raise Invalid unless ``e`` is an integer expression of dims."""
        ...

    def index_length(self, name: str) -> int | None:
        """Tile size of a loop variable; None for an untiled one. Raises Invalid if unknown."""
        ...


class Machine(Protocol):
    """What ``evaluate`` may ask of the interpreter."""

    exact: bool
    """True: floats are float64 and casts between floats do not round."""

    def value(self, operand: Operand) -> Array: ...
    def pair(self, a: Operand, b: Operand) -> tuple[Array, Array]:
        """Two operands in compute precision, literals taking the other's dtype."""
        ...

    def rounded(self, x: Array, dtype: DType) -> Array:
        """``x`` as a value of ``dtype`` (unrounded float64 when exact)."""
        ...

    def size(self, e: Expr) -> int:
        """Value of an integer expression of dims."""
        ...

    def index_values(self, name: str) -> Array: ...
    def load(self, tensor: str, coords: Sequence[Expr], fill: float | int) -> Array: ...
    def store(self, tensor: str, coords: Sequence[Expr], x: Array) -> None: ...
    def accumulate(self, kind: str, tensor: str, coords: Sequence[Expr], x: Array) -> None: ...


@dataclass(frozen=True)
class Stmt:
    """A statement of a kernel's body. ``loc`` takes no part in equality."""

    loc: Loc | None = field(default=None, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True)
class Op(Stmt):
    """A statement without a body. ``result`` is its SSA name, or None if it gives no value."""

    mnemonics: ClassVar[tuple[str, ...]] = ()
    format: ClassVar[str] = ""
    family: ClassVar[str] = ""
    has_result: ClassVar[bool] = True
    pieces: ClassVar[tuple[Piece, ...]] = ()
    operand_fields: ClassVar[tuple[str, ...]] = ()

    result: str | None = field(default=None, kw_only=True)

    @property
    def mnemonic(self) -> str:
        return self.mnemonics[0] if len(self.mnemonics) == 1 else str(getattr(self, "fn"))  # noqa: B009

    def operands(self) -> tuple[Operand, ...]:
        """The operands that are values or literals, in order (not tensors, not coordinates)."""
        found = [getattr(self, name) for name in self.operand_fields]
        return tuple(x for x in found if x is not None)

    def coordinates(self) -> tuple[Expr, ...]:
        """The coordinate expressions of a memory op; empty for others."""
        return ()

    def infer(self, scope: Scope) -> TileType | None:
        raise NotImplementedError(type(self).__name__)

    def evaluate(self, machine: Machine) -> Array | None:
        raise NotImplementedError(type(self).__name__)


@dataclass(frozen=True)
class Piece:
    """One element of a compiled format: a literal, a field, or an optional group."""

    literal: str = ""
    field: str = ""
    kind: str = ""
    choices: frozenset[str] | None = None
    group: tuple[Piece, ...] = ()
    default: Any = None


def _spec(kind: str, default: Any, **extra: Any) -> Any:
    return field(default=default, metadata={"kind": kind, **extra})


def operand(default: Any = MISSING) -> Any:
    """An SSA value or a literal."""
    return _spec("operand", default)


def tensor() -> Any:
    """The name of a kernel parameter, with its coordinates in the ``coords`` field."""
    return _spec("tensor", MISSING)


def coords() -> Any:
    """Coordinates in brackets, with an optional ``else`` literal in the field ``fill``."""
    return _spec("coords", MISSING)


def word(choices: Sequence[str], default: Any = MISSING) -> Any:
    """One of a fixed set of words."""
    return _spec("word", default, choices=frozenset(choices))


def flag() -> Any:
    """A word that is there or not; the field holds a bool and the word is the field's name."""
    return _spec("flag", False)


def integer(default: Any = MISSING) -> Any:
    return _spec("int", default)


def integers() -> Any:
    """Integers in brackets: ``[1, 0]``."""
    return _spec("ints", MISSING)


def value() -> Any:
    """A literal number, ``true`` or ``false``, or an integer expression of dims."""
    return _spec("value", MISSING)


def dtype() -> Any:
    return _spec("dtype", MISSING)


def tile_type() -> Any:
    return _spec("tiletype", MISSING)


def index() -> Any:
    """The name of a loop variable."""
    return _spec("index", MISSING)


REGISTRY: dict[str, type[Op]] = {}
"""Op classes by mnemonic."""

O = TypeVar("O", bound=type[Op])  # noqa: E741


def register(cls: O) -> O:
    """Enter an op class into the registry and compile its format."""
    if not cls.mnemonics or not cls.__doc__:
        raise TypeError(f"{cls.__name__} needs mnemonics and a docstring")
    cls.pieces = tuple(_compile(cls.format, {f.name: f for f in fields(cls)}))
    cls.operand_fields = tuple(f.name for f in fields(cls) if f.metadata.get("kind") == "operand")
    for m in cls.mnemonics:
        if m in REGISTRY:
            raise TypeError(f"op kind `{m}` is registered twice")
        REGISTRY[m] = cls
    return cls


_TOKEN = re.compile(r"\(([^()]*)\)\?|\$(\w+)|([A-Za-z_]+|[^\sA-Za-z_$()])")


def _compile(text: str, by_name: dict[str, Any]) -> Iterator[Piece]:
    for m in _TOKEN.finditer(text):
        if m[1] is not None:
            group = tuple(_compile(m[1], by_name))
            first = next(p for p in group if p.field)
            yield Piece(field=first.field, group=group, default=first.default)
        elif m[2]:
            f = by_name[m[2]]
            yield Piece(
                field=f.name,
                kind=f.metadata["kind"],
                choices=f.metadata.get("choices"),
                default=None if f.default is MISSING else f.default,
            )
        else:
            yield Piece(literal=m[3])


Elementwise = Callable[..., Any]
