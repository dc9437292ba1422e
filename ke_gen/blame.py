"""``ke-gen blame RUN NODE``: which rewrite brought each statement."""

from __future__ import annotations

import click

from ke_gen.faults import BAD_INPUT, Fault
from ke_gen.runs import loaded, node_of, opened, store_option
from ke_gen.terminal import paint, width


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@store_option
@click.argument("run")
@click.argument("node")
def blame(store_url: str, run: str, node: str) -> int:
    """Show NODE's program with the rewrite that brought or last changed each line.

    Lines of the root carry the root's name. A step of several rewrites is taken apart.
    """
    from search.blame import blame_lines
    from search.store import ArtifactError

    with opened(store_url) as store:
        _, config, graph = loaded(store, run)
        found = node_of(graph, config, node)
        try:
            lines = blame_lines(store, graph, found.key)
        except ArtifactError as error:
            raise Fault(BAD_INPUT, str(error)) from None
    wide = min(48, width() // 3, max((len(by) for by, _ in lines), default=0))
    for by, line in lines:
        label = by if len(by) <= wide else f"{by[: wide - 3]}..."
        print(f"{paint('dim', label.ljust(wide))}  {line}".rstrip())
    return 0
