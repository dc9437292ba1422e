"""``ke-gen export-trajectories RUN``: prompts, replies, verdicts and rewards as JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ke_gen.faults import BAD_INPUT, Fault
from ke_gen.runs import opened, record_of, store_option


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--out", "-o", metavar="FILE", default="", help="Where to; the terminal if left out.")
@store_option
@click.argument("run")
def export(out: str, store_url: str, run: str) -> int:
    """Write each reply of RUN (or `last`) with its prompt, verdict and reward, a line each.

    The reward is the logarithm of the speed-up over the parent; -1 for a reply of no use.
    """
    from search.llm.trajectories import trajectories
    from search.store import ArtifactError

    with opened(store_url) as store:
        record = record_of(store, run)
        try:
            lines = [json.dumps(t, sort_keys=True) for t in trajectories(store, record.id)]
        except ArtifactError as error:
            raise Fault(BAD_INPUT, str(error)) from None
    if not lines:
        raise Fault(BAD_INPUT, f"run {record.id} has no replies of a model",
                    "search with --operator llm")  # fmt: skip
    text = "\n".join(lines) + "\n"
    if not out:
        sys.stdout.write(text)
        return 0
    Path(out).write_text(text, encoding="utf-8")
    print(f"{len(lines)} replies in {out}")
    return 0
