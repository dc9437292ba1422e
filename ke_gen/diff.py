"""``ke-gen diff A.ir B.ir``: which statements differ."""

from __future__ import annotations

import json

import click

from ke_gen.files import read_text, shown
from ke_gen.terminal import paint


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Structured output.")
@click.option("--context", default=2, show_default=True, type=click.IntRange(0, 1000),
              help="Unchanged statements to show around a change.")  # fmt: skip
@click.argument("before")
@click.argument("after")
def diff(as_json: bool, context: int, before: str, after: str) -> int:
    """Show which statements of BEFORE were added, removed or changed in AFTER.

    Statements are compared, not lines: renamed values and layout make no difference. Exit code 0
    in either case, and 2 when a file cannot be read.
    """
    from ke_ir.diff import count, diff_modules, render
    from ke_ir.parser import parse

    old, new = (parse(read_text(path), shown(path)) for path in (before, after))
    changes = diff_modules(old, new)
    totals = count(changes)
    if as_json:
        listed = [c.to_dict() for c in changes if c.touched]
        print(json.dumps({"count": totals, "changes": listed}, indent=2))
        return 0
    text = render(changes, paint, context)
    print(text or "no difference")
    if text:
        print(", ".join(f"{n} {kind}" for kind, n in totals.items()))
    return 0
