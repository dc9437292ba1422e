"""What a rewrite is: its text form, its registry, and what it may answer.

A rewrite is one frozen dataclass deriving from ``Rewrite`` (or ``KernelRewrite`` when it changes
one kernel), decorated with ``@register_rewrite``. It states

- ``name``: the word that begins its text form, snake_case;
- fields made by ``kernel() loop() value() tensor() integer() word()``, in the order in which they
  are written: ``retile(@rms_norm, %d, 512)``;
- a docstring with an example of its text form and the programs before and after it, which are
  also its test;
- ``apply``: the changed module, or ``NoMatch`` with the reason;
- ``applicable``: every instance that applies to a module, in a fixed order.

A rewrite never changes the float64 meaning of a program and never touches an op. What it gives
verifies if what it was given does.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self, TypeVar

from ke_ir.diagnostics import near
from ke_ir.ir import Kernel, Module, Tuned

GROUP = "ke_gen.rewrites"
"""Entry points of this group name modules, or rewrite classes, of other packages."""


@dataclass(frozen=True)
class NoMatch:
    """A rewrite does not apply; ``reason`` says why, to a person."""

    reason: str


class RewriteTextError(ValueError):
    """The text of a rewrite cannot be read; the message says what was expected."""


def _spec(kind: str, **extra: Any) -> Any:
    return dataclasses.field(metadata={"kind": kind, **extra})


def kernel() -> Any:
    """The name of a kernel or program: ``@k``."""
    return _spec("kernel")


def loop() -> Any:
    """The name of a loop variable: ``%d``."""
    return _spec("loop")


def value() -> Any:
    """The name of a value: ``%x_1``."""
    return _spec("value")


def tensor() -> Any:
    """The name of a tensor argument or temporary: ``%w``."""
    return _spec("tensor")


def integer() -> Any:
    return _spec("int")


def word(*choices: str) -> Any:
    """One of a fixed set of words."""
    return _spec("word", choices=choices)


_SIGIL = {"kernel": "@", "loop": "%", "value": "%", "tensor": "%"}


@dataclass(frozen=True)
class Rewrite:
    """One step from a module to another of equal meaning. ``str`` gives its text form."""

    name: ClassVar[str] = ""

    def apply(self, module: Module) -> Module | NoMatch:
        """The module after this step, or why it does not apply."""
        raise NotImplementedError(type(self).__name__)

    @classmethod
    def applicable(cls, module: Module) -> Iterator[Self]:
        """Every instance that applies, in a fixed order; a handful of choices for sizes."""
        raise NotImplementedError(cls.__name__)

    @classmethod
    def form(cls) -> str:
        """The text form with the names of the fields: ``retile(@kernel, %loop, tile)``."""
        names = (f"{_SIGIL.get(f.metadata['kind'], '')}{f.name}" for f in fields(cls))
        return f"{cls.name}({', '.join(names)})"

    def __str__(self) -> str:
        args = [f"{_SIGIL.get(f.metadata['kind'], '')}{getattr(self, f.name)}"
                for f in fields(self)]  # fmt: skip
        return f"{self.name}({', '.join(args)})"


@dataclass(frozen=True)
class KernelRewrite(Rewrite):
    """A rewrite that changes the body of one kernel, not its arguments."""

    kernel: str = kernel()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        """The changed kernel, or why it stays as it is."""
        raise NotImplementedError(type(self).__name__)

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        """Every instance that applies to this kernel, in a fixed order."""
        raise NotImplementedError(cls.__name__)

    def apply(self, module: Module) -> Module | NoMatch:
        k = module.kernels.get(self.kernel)
        if k is None:
            hint = near(self.kernel, module.kernels)
            return NoMatch(f"there is no kernel @{self.kernel}" + (f"; {hint}" if hint else ""))
        new = self.change(k)
        return new if isinstance(new, NoMatch) else replace_kernel(module, new)

    @classmethod
    def applicable(cls, module: Module) -> Iterator[Self]:
        for k in module.kernels.values():
            yield from cls.instances(k)


def replace_kernel(module: Module, *new: Kernel) -> Module:
    """The module with these kernels in place of those of their names.

    What was tuned for a replaced kernel goes: it was chosen for another program.
    """
    by_name = {k.name: k for k in new}
    items = tuple(
        by_name.get(i.name, i) if isinstance(i, Kernel) else i
        for i in module.items
        if not (isinstance(i, Tuned) and i.kernel in by_name)
    )
    return Module(items, file=module.file)


REWRITES: dict[str, type[Rewrite]] = {}
"""Rewrite classes by name; ``ke_ir.rewrites.all_rewrites`` fills it."""

R = TypeVar("R", bound=type[Rewrite])


def register_rewrite(cls: R) -> R:
    """Enter a rewrite into the registry. Raises TypeError if it is not well formed."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", cls.name) or not cls.__doc__:
        raise TypeError(f"{cls.__name__} needs a snake_case name and a docstring")
    if any("kind" not in f.metadata for f in fields(cls)):
        raise TypeError(f"{cls.__name__} has a field without a kind")
    if REWRITES.get(cls.name, cls) is not cls:
        raise TypeError(f"rewrite `{cls.name}` is registered twice")
    REWRITES[cls.name] = cls
    return cls


_TEXT = re.compile(r"\s*([A-Za-z_]\w*)\s*\((.*)\)\s*", re.DOTALL)


def read_rewrite(text: str, known: dict[str, type[Rewrite]]) -> Rewrite:
    """The rewrite that ``text`` stands for. Raises RewriteTextError."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise RewriteTextError(f"`{text}` is not a rewrite; write `name(@kernel, %loop, 512)`")
    cls = known.get(found[1])
    if cls is None:
        hint = near(found[1], known)
        raise RewriteTextError(f"there is no rewrite `{found[1]}`" + (f"; {hint}" if hint else ""))
    args = [a.strip() for a in found[2].split(",")] if found[2].strip() else []
    wanted = fields(cls)
    if len(args) != len(wanted):
        raise RewriteTextError(f"`{text.strip()}` has {len(args)} arguments; write `{cls.form()}`")
    return cls(*(_READERS[f.metadata["kind"]](a, f) for a, f in zip(args, wanted, strict=True)))


def _read_name(text: str, f: dataclasses.Field[Any]) -> str:
    sigil = _SIGIL[f.metadata["kind"]]
    if not re.fullmatch(re.escape(sigil) + r"\w+", text):
        raise RewriteTextError(f"`{text}` is not a {f.metadata['kind']}; write `{sigil}NAME`")
    return text[1:]


def _read_int(text: str, f: dataclasses.Field[Any]) -> int:
    if not re.fullmatch(r"-?\d{1,18}", text):
        raise RewriteTextError(f"`{text}` is not an integer, which `{f.name}` is")
    return int(text)


def _read_word(text: str, f: dataclasses.Field[Any]) -> str:
    choices: Iterable[str] = f.metadata["choices"]
    if text not in choices:
        hint = near(text, choices)
        raise RewriteTextError(f"`{text}` is none of {', '.join(choices)}"
                               + (f"; {hint}" if hint else ""))  # fmt: skip
    return text


_READERS: dict[str, Callable[[str, dataclasses.Field[Any]], str | int]] = {
    "kernel": _read_name, "loop": _read_name, "value": _read_name, "tensor": _read_name,
    "int": _read_int, "word": _read_word,
}  # fmt: skip
