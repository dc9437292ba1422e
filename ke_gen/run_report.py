"""``ke-gen report RUN -o FILE.html``: a search as one page that works offline."""

from __future__ import annotations

import click

from ke_gen.faults import BAD_INPUT, Fault
from ke_gen.generate import write_text
from ke_gen.runs import loaded, opened, store_option


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--output", "-o", metavar="OUT", default="", help="File; RUN.html if left out.")
@store_option
@click.argument("run")
def report(output: str, store_url: str, run: str) -> int:
    """Write RUN's graph, progress, failures and Pareto front as one HTML file."""
    from search.report import report_html
    from search.store import ArtifactError

    with opened(store_url) as store:
        record, config, graph = loaded(store, run)
        try:
            page = report_html(store, record, config, graph)
        except ArtifactError as error:
            raise Fault(BAD_INPUT, str(error)) from None
    path = output or f"{record.id}.html"
    write_text(page, path)
    if path != "-":
        print(f"wrote {path}")
    return 0
