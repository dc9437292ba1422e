"""``ke-gen import FILE.py:NAME``, and how every command takes such a name in place of a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from ke_gen.faults import BAD_INPUT, Fault, Rejected

_SPEC = re.compile(r"(?P<path>.+\.py)(:(?P<name>[A-Za-z_]\w*))?")
SECONDS = 600.0


@click.command("import", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--output", "-o", metavar="OUT", help="Write to a file instead of standard output.")
@click.option("--dynamic", multiple=True, metavar="NAME=INPUT.DIM:LOW..HIGH",
              help="A size that is an argument of a run: B=x.0, B=x.0+y.0:1..64.")  # fmt: skip
@click.argument("source", metavar="FILE.py:NAME")
def import_(output: str | None, dynamic: tuple[str, ...], source: str) -> int:
    """Turn a PyTorch module or function into an op.

    NAME is an nn.Module class or a function of FILE.py, Model if left out. `get_inputs()` of the
    file gives example inputs, whose shapes the op has; `get_init_inputs()` what the class is made
    with. Weights become inputs of the op.
    """
    from ke_gen.generate import write_text

    spec = python_source(source)
    if spec is None:
        raise Fault(BAD_INPUT, f"{source}: not of the form FILE.py:NAME", "such as model.py:Model")
    write_text(imported_text(*spec, dynamic), output)
    return 0


def python_source(given: str) -> tuple[Path, str] | None:
    """File and name of ``FILE.py:NAME`` (NAME is ``Model`` if left out); None for other names."""
    found = _SPEC.fullmatch(given)
    return None if found is None else (Path(found["path"]), found["name"] or "Model")


def imported_text(path: Path, name: str, dynamic: Sequence[str] = ()) -> str:
    """KE-IR text of a user's module. Raises Fault or Rejected with all that stands against it."""
    from search.evaluation.pool import Limits, Pool, WorkerFailed

    if not path.is_file():
        raise Fault(BAD_INPUT, f"no such file: {path}")
    request = {"path": str(path.resolve()), "name": name, "dynamic": tuple(dynamic)}
    with Pool(1) as pool:
        try:
            reply = pool.run("ke_ir.importers.task:run", request, Limits(SECONDS))
        except WorkerFailed as failed:
            raise Fault(BAD_INPUT, f"importing {path}:{name}: {failed.reason}") from None
    if "text" not in reply:
        raise Unimported("\n".join(d.render() for d in reply["diagnostics"]))
    text: str = reply["text"]
    return text


class Unimported(Rejected):
    """A module that has no form in KE-IR, with rendered diagnostics."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = BAD_INPUT
