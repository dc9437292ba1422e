"""Finds targets by name: ``amd`` or ``amd.gfx942``.

Targets are entry points of the group ``ke_gen.targets``; each names a class that follows
``targets.base.Target`` and is constructed with an architecture. They may live in any installed
package. Looking one up imports that one's module only.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from ke_ir.diagnostics import near
from targets.base import Target, TargetError, UnknownArch

if TYPE_CHECKING:
    from targets.base import Knobs

GROUP = "ke_gen.targets"


class UnknownTarget(TargetError):
    """No installed package offers a target of this name."""


class BrokenTarget(TargetError):
    """The package that offers the target fails, or lacks a part of the protocol."""


@cache
def _entries() -> dict[str, EntryPoint]:
    return {e.name: e for e in entry_points(group=GROUP)}


def clear_cache() -> None:
    """Look for installed packages anew at the next call."""
    _entries.cache_clear()


def target_names() -> tuple[str, ...]:
    """Names of all installed targets, sorted. Imports none of them."""
    return tuple(sorted(_entries()))


def target_class(name: str) -> Any:
    """The class behind a target's name. Raises UnknownTarget, BrokenTarget."""
    entry = _entries().get(name)
    if entry is None:
        raise UnknownTarget(f"unknown target `{name}`", fix=_help(name, target_names(), "targets"))
    try:
        found = entry.load()
    except Exception as error:
        raise _broken(entry, f"{type(error).__name__}: {error}") from error
    if lacking := [m for m in _MEMBERS if not hasattr(found, m)]:
        raise _broken(entry, f"it has no {', '.join(f'`{m}`' for m in lacking)}")
    return found


_MEMBERS = tuple(n for n in vars(Target) if not n.startswith("_"))
"""Methods and properties of the protocol."""


def _broken(entry: EntryPoint, why: str) -> BrokenTarget:
    package = entry.dist.name if entry.dist is not None else entry.value
    return BrokenTarget(
        f"target `{entry.name}` cannot be loaded from {entry.value}",
        why,
        f"reinstall or remove the package `{package}`",
    )


def find_target(name: str, arch: str = "") -> Target:
    """The target for ``name`` or ``name.arch``; ``arch`` when given must agree with the name's.

    Without an architecture it is the target's default, the first of ``archs()``. Raises
    UnknownTarget or UnknownArch (both naming the near miss), BrokenTarget.
    """
    base, _, dotted = name.partition(".")
    cls = target_class(base)
    if dotted and arch and dotted != arch:
        raise UnknownArch(
            f"`{name}` and the architecture `{arch}` disagree",
            fix=f"give one of `{base}.{dotted}` and `{base}.{arch}`",
        )
    try:
        archs = tuple(cls.archs())
        wanted = dotted or arch or archs[0]
        if wanted not in archs:
            raise UnknownArch(
                f"target `{base}` has no architecture `{wanted}`",
                fix=_help(wanted, archs, "architectures"),
            )
        target: Target = cls(wanted)
    except TargetError:
        raise
    except Exception as error:
        raise _broken(_entries()[base], f"{type(error).__name__}: {error}") from error
    if (target.name, target.arch) != (base, wanted):
        itself = f"{target.name}.{target.arch}"
        raise _broken(_entries()[base], f"asked for `{base}.{wanted}` it calls itself `{itself}`")
    return target


def knobs_for(target: Target, module: Any, program: Any) -> Knobs:
    """The target's default knobs, overridden by the module's ``tuned`` blocks for this program.

    A block for the architecture wins over one for the whole target. Raises TargetError for a knob
    that the target does not have, or a value outside its space.
    """
    space = target.knobs(program, module)
    chosen: dict[str, int | str | bool] = {name: values[0] for name, values in space.items()}
    names = {program.name, *(call.kernel for call in program.calls)}
    for wanted in ("", target.arch):
        for block in module.tuned:
            if (block.kernel, block.target, block.arch) in {
                (n, target.name, wanted) for n in names
            }:
                chosen.update(_checked(block, space))
    return chosen


def _checked(block: Any, space: Any) -> dict[str, int | str | bool]:
    where = f"tuned @{block.kernel} for {block.target}{'.' if block.arch else ''}{block.arch}"
    for name, value in block.knobs:
        if name not in space:
            raise TargetError(
                f"unknown knob `{name}` in `{where}`", fix=_help(name, tuple(space), "knobs")
            )
        if value not in space[name]:
            raise TargetError(
                f"knob `{name} = {value}` in `{where}` is outside its space",
                fix=f"use one of {', '.join(map(str, space[name]))}",
            )
    return dict(block.knobs)


def _help(word: str, known: Iterable[str], what: str) -> str:
    names = tuple(known)
    listed = f"{what}: {', '.join(names)}" if names else f"no {what} are installed"
    hint = near(word, names)
    return f"{hint} {listed}" if hint else listed
