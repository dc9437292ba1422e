"""``ke-gen targets``: what is here, what is missing, and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ke_gen.terminal import print_table, print_wrapped

if TYPE_CHECKING:
    from targets.base import Target


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Structured output.")
def targets(as_json: bool) -> int:
    """List each installed target and architecture, and what it can do on this machine."""
    from targets.registry import target_names

    rows = [row for name in target_names() for row in _rows(name)]
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    if not rows:
        print("no targets are installed; reinstall ke-gen")
        return 2
    print_table(
        ("target", "hardware", "presence"),
        [(r["target"], r["hardware"], r["presence"]) for r in rows],
        [{"here": "good", "missing": "bad"}.get(r["presence"], "") for r in rows],
    )
    for reason, fix in dict.fromkeys((r["reason"], r["fix"]) for r in rows):
        names = [r["target"] for r in rows if (r["reason"], r["fix"]) == (reason, fix)]
        print()
        print_wrapped(f"{', '.join(names)}: {reason}")
        if fix:
            print_wrapped(f"to change that: {fix}", "  ")
    return 0


def _rows(name: str) -> list[dict[str, Any]]:
    from targets.base import TargetError
    from targets.registry import find_target, target_class

    try:
        archs = tuple(target_class(name).archs())
        return [_row(find_target(name, arch)) for arch in archs]
    except TargetError as error:
        reason, fix = str(error), error.fix
    except Exception as error:  # somebody else's code: it costs its own row only
        reason = f"the target itself failed: {type(error).__name__}: {error}"
        fix = "report it to whom the target is from"
    return [{"target": name, "hardware": "", "presence": "missing", "reason": reason, "fix": fix}]


def _row(target: Target) -> dict[str, Any]:
    found = target.availability()
    return {
        "target": f"{target.name}.{target.arch}",
        "hardware": target.spec.name,
        "presence": found.presence.value,
        "reason": found.reason,
        "fix": found.fix,
    }
