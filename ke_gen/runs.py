"""What the commands about searches share: the store's options, and finding runs and nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ke_gen.faults import BAD_INPUT, Fault

if TYPE_CHECKING:
    from search.config import Config
    from search.graph import Node, SearchGraph
    from search.store import RunRecord, Store

F = TypeVar("F", bound=Callable[..., Any])


def store_option(command: F) -> F:
    """``--store``, for every command that reads or writes runs."""
    return click.option(
        "--store", "store_url", metavar="WHERE", default="", envvar="KE_GEN_STORE",
        help="Folder, or URL of a database; .ke-gen if left out.",
    )(command)  # fmt: skip


def opened(where: str) -> Store:
    """The store. Raises Fault."""
    from search.store import StoreError, open_store

    try:
        return open_store(where)
    except StoreError as error:
        raise Fault(BAD_INPUT, error.what, error.fix) from None


def record_of(store: Store, run: str) -> RunRecord:
    """A run by its id, or the last one for ``last``. Raises Fault."""
    from search.store import StoreError

    try:
        if run == "last" and (runs := store.runs()):
            return runs[-1]
        return store.run(run)
    except StoreError as error:
        raise Fault(BAD_INPUT, error.what, error.fix) from None


def loaded(store: Store, run: str) -> tuple[RunRecord, Config, SearchGraph]:
    """A run with its graph. Raises Fault, also when nothing has been found yet."""
    from search.config import Config

    record = record_of(store, run)
    graph = store.graph(record.id)
    if not len(graph):
        raise Fault(BAD_INPUT, f"run {record.id} has no candidates yet",
                    f"carry it on with `ke-gen resume {record.id}`")  # fmt: skip
    return record, Config.from_dict(record.config), graph


def node_of(graph: SearchGraph, config: Config, name: str) -> Node:
    """A node by the beginning of its key, ``gen:3`` (the best up to that generation), ``root``,
    or ``best``; the last two and ``gen`` may name a target: ``best:kea.kea2``. Raises Fault.
    """
    from search.graph import generation_best

    kind, _, rest = name.partition(":")
    if kind == "root":
        return graph.node(graph.roots[-1])
    if kind in ("best", "gen"):
        number, _, target = rest.partition(":") if kind == "gen" else ("", "", rest)
        chosen = _target(config, target)
        bests = generation_best(graph.nodes(), chosen)
        if not bests:
            raise Fault(BAD_INPUT, f"no candidate is correct on {chosen}")
        if kind == "best":
            return bests[-1]
        if not number.isdecimal():
            raise Fault(BAD_INPUT, f"`{name}` is not a generation", "write gen:3")
        if int(number) >= len(bests):
            raise Fault(BAD_INPUT, f"there is no generation {number}",
                        f"the last one is gen:{len(bests) - 1}")  # fmt: skip
        return bests[int(number)]
    try:
        return graph.find(name)
    except KeyError as error:
        raise Fault(
            BAD_INPUT, f"no such node: {error.args[0]}",
            "`ke-gen log RUN` lists them; gen:N, root and best name some",
        ) from None  # fmt: skip


def _target(config: Config, name: str) -> str:
    if not name:
        return config.targets[0]
    for target in config.targets:
        if name in (target, target.partition(".")[0]):
            return target
    raise Fault(
        BAD_INPUT, f"the run has no target `{name}`", f"targets: {', '.join(config.targets)}"
    )
