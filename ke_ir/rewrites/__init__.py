"""Rewrites: the steps of a search from one module to another of equal meaning.

``applicable(module)`` lists every step, ``parse_rewrite(text)`` reads one, and each rewrite's
``apply(module)`` takes it. ``unique_names(module)`` comes first: rewrites address loops and values
of a kernel by their names.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points

from ke_ir.ir import Module
from ke_ir.rewrites.base import (
    GROUP,
    REWRITES,
    KernelRewrite,
    NoMatch,
    Rewrite,
    RewriteTextError,
    read_rewrite,
    register_rewrite,
)
from ke_ir.rewrites.names import unique_names

__all__ = [
    "KernelRewrite", "NoMatch", "Rewrite", "RewriteTextError", "all_rewrites", "applicable",
    "apply_text", "parse_rewrite", "register_rewrite", "unique_names",
]  # fmt: skip


@cache
def all_rewrites() -> tuple[type[Rewrite], ...]:
    """All rewrites, built in and of installed packages, sorted by name.

    A package offers its own by entry points of the group ``ke_gen.rewrites``, each naming a module
    or a class that registers them. Raises RuntimeError naming the entry that cannot be loaded.
    """
    for m in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{m.name}")
    for e in entry_points(group=GROUP):
        try:
            e.load()
        except Exception as error:
            raise RuntimeError(
                f"rewrites `{e.name}` cannot be loaded from {e.value}: {error}; "
                "reinstall or remove the package that offers them"
            ) from error
    return tuple(REWRITES[n] for n in sorted(REWRITES))


def applicable(module: Module) -> Iterator[Rewrite]:
    """Every rewrite that applies to a module, by name of the rewrite and then in its own order."""
    for cls in all_rewrites():
        yield from cls.applicable(module)


def parse_rewrite(text: str) -> Rewrite:
    """The rewrite of this text form: ``parse_rewrite(str(r)) == r``. Raises RewriteTextError."""
    return read_rewrite(text, {c.name: c for c in all_rewrites()})


def apply_text(text: str, module: Module) -> Module | NoMatch:
    """Apply the rewrite of this text form. Raises RewriteTextError."""
    return parse_rewrite(text).apply(module)
