"""``ke-gen search FILE`` and ``ke-gen resume RUN``: find the fastest correct kernel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ke_gen.faults import BAD_INPUT, WRONG, Fault
from ke_gen.llm_options import llm_config, llm_options, print_prompt
from ke_gen.runs import opened, record_of, store_option

if TYPE_CHECKING:
    from ke_ir.ir import Module
    from search.run import Search
    from search.store import Store

_CONTEXT = {"help_option_names": ["-h", "--help"]}
_DEFAULT_CANDIDATES = 200


@click.command(context_settings=_CONTEXT)
@click.option("--targets", "-t", metavar="T,...", default="",
              help="Targets, as amd or amd.gfx942; all installed ones if left out.")  # fmt: skip
@click.option("--policy", default="evolutionary", show_default=True, metavar="P",
              help="greedy, beam, random, mcts, evolutionary, or an installed one.")  # fmt: skip
@click.option("--operator", default="rules", show_default=True, metavar="O",
              help="What makes a candidate from another.")  # fmt: skip
@click.option("--fitness", default="geomean", show_default=True, metavar="F",
              help="geomean, best-target or pareto.")  # fmt: skip
@click.option("--weights", metavar="T=W,...", default="", help="Weights of targets in the fitness.")
@click.option("--memory", default="both", show_default=True,
              type=click.Choice(["parent", "siblings", "both", "clean"]),
              help="What the operator is told of a candidate's relatives.")  # fmt: skip
@click.option("--candidates", default=0, metavar="N", type=click.IntRange(0),
              help="Stop after N are evaluated; 200 if no limit is given.")  # fmt: skip
@click.option("--seconds", default=0.0, metavar="S", type=click.FloatRange(0),
              help="Stop after S seconds of wall clock.")  # fmt: skip
@click.option("--stall", default=0, metavar="N", type=click.IntRange(0),
              help="Stop after N candidates without a gain.")  # fmt: skip
@click.option("--roofline", default=0.0, metavar="F", type=click.FloatRange(0, 1),
              help="Stop at this fraction of the roofline on every target.")  # fmt: skip
@click.option("--tokens", default=0, metavar="N", type=click.IntRange(0),
              help="Stop after N tokens used by the operator.")  # fmt: skip
@click.option("--money", default=0.0, metavar="M", type=click.FloatRange(0),
              help="Stop after the operator has spent M.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Equal seeds give equal searches.")
@click.option("--drafts", default=8, show_default=True, type=click.IntRange(0),
              help="Candidates made from the roots by several rewrites first.")  # fmt: skip
@click.option("--warm-start", is_flag=True, help="Try first what did well on similar ops before.")
@click.option("--no-learn", is_flag=True,
              help="Write no note of what made the best one faster.")  # fmt: skip
@click.option("--jobs", default=0, metavar="N", type=click.IntRange(0),
              help="Workers; as many as there are cores, at most 4, if left out.")  # fmt: skip
@click.option("--dim", multiple=True, metavar="NAME=SIZE", help="Size of a dim; may be repeated.")
@click.option("--kernel", metavar="NAME", default="", help="Which one, when a file has several.")
@click.option("--from-op", is_flag=True, help="Leave out the file's own kernels.")
@click.option("--out", metavar="DIR", default="", help="Where the results go; FILE's stem + -best.")
@llm_options
@store_option
@click.argument("file")
def search(
    targets: str,
    policy: str,
    operator: str,
    fitness: str,
    weights: str,
    memory: str,
    candidates: int,
    seconds: float,
    stall: int,
    roofline: float,
    tokens: int,
    money: float,
    seed: int,
    drafts: int,
    warm_start: bool,
    no_learn: bool,
    jobs: int,
    dim: tuple[str, ...],
    kernel: str,
    from_op: bool,
    out: str,
    store_url: str,
    file: str,
    dry_run: bool,
    **llm: Any,
) -> int:
    """Search for the fastest correct kernel of FILE's op on each target.

    The search begins with a derived kernel and applies rewrites. Every candidate is checked and
    timed on every target. Ctrl-C stops it; `ke-gen resume RUN` carries it on.
    """
    from ke_gen.evaluate import chosen_targets
    from ke_gen.files import all_sizes, choose_program, load, parse_dims
    from ke_ir.derive import with_derived
    from search.config import Config
    from search.parts import PartError
    from search.run import start
    from search.termination import Limits

    names = chosen_targets(targets)
    module = load(file)
    program = choose_program(with_derived(module), kernel)
    dims = parse_dims(dim, program)
    all_sizes(program, dims)
    text = _op_alone(module, program.name) if from_op else module.source
    limits = Limits(seconds, candidates, stall, roofline, tokens, money)
    if limits == Limits():
        limits = Limits(candidates=_DEFAULT_CANDIDATES)
    settings = llm_config(operator, money, **llm)
    if dry_run:
        config = Config(program.name, "", file, names, dims, seed=seed, llm=settings)
        return print_prompt(config, text)
    with opened(store_url) as store:
        config = Config(
            program=program.name, text=store.artifacts.put(text), file=file,
            targets=names, dims=dims, policy=policy, operator=operator, fitness=fitness,
            memory=memory, weights=_weights(weights, names), seed=seed, drafts=drafts,
            limits=limits, learn=not no_learn, llm=settings,
            warm=_warm(store, module, program.name, names) if warm_start else (),
        )  # fmt: skip
        try:
            run = start(store, config)
        except PartError as error:
            raise Fault(BAD_INPUT, error.what, error.fix) from None
        return _carry_out(store, run, jobs, out)


def _op_alone(module: Module, name: str) -> str:
    from ke_ir.ir import Module
    from ke_ir.printer import print_module

    if name not in module.ops:
        raise Fault(BAD_INPUT, f"there is no op @{name} to begin from", "leave out --from-op")
    return print_module(Module((module.ops[name],)))


@click.command(context_settings=_CONTEXT)
@click.option("--jobs", default=0, metavar="N", type=click.IntRange(0), help="Workers.")
@click.option("--candidates", default=0, metavar="N", type=click.IntRange(0),
              help="A new limit of candidates, those of before included.")  # fmt: skip
@click.option("--seconds", default=0.0, metavar="S", type=click.FloatRange(0),
              help="A new limit of wall clock, that of before included.")  # fmt: skip
@click.option("--out", metavar="DIR", default="", help="Where the results go.")
@store_option
@click.argument("run")
def resume(
    jobs: int, candidates: int, seconds: float, out: str, store_url: str, run: str
) -> int:  # fmt: skip
    """Carry on RUN (or `last`) where it was stopped, or killed.

    Nothing that was evaluated is evaluated again.
    """
    with opened(store_url) as store:
        record = record_of(store, run)
        if candidates or seconds:
            from dataclasses import replace

            from search.config import Config

            config = Config.from_dict(record.config)
            limits = replace(
                config.limits,
                candidates=candidates or config.limits.candidates,
                seconds=seconds or config.limits.seconds,
            )
            store.reconfigure(record.id, replace(config, limits=limits).to_dict())
        return _carry_out(store, record.id, jobs, out)


def _carry_out(store: Store, run: str, jobs: int, out: str) -> int:
    from ke_gen.search_progress import SearchProgress
    from search.parts import PartError
    from search.run import Search
    from search.store import ArtifactError, StoreError

    progress = SearchProgress()
    try:
        with Search(store, run, jobs, progress) as running:
            try:
                with progress:
                    reason = running.run()
            except KeyboardInterrupt:
                click.echo(f"stopped; carry on with `{_resume(store, run)}`", err=True)
                raise
            return _finish(store, running, reason, out)
    except PartError as error:
        raise Fault(BAD_INPUT, error.what, error.fix) from None
    except StoreError as error:
        raise Fault(BAD_INPUT, error.what, error.fix or f"then: {_resume(store, run)}") from None
    except ArtifactError as error:
        raise Fault(BAD_INPUT, str(error), f"then: {_resume(store, run)}") from None


def _finish(store: Store, running: Search, reason: str, out: str) -> int:
    from ke_gen.search_summary import print_summary
    from search.results import write_best

    folder = Path(out or f"{Path(running.config.file).stem or running.config.program}-best")
    found = write_best(store, running.config, running.graph, folder)
    print_summary(running, reason, found)
    for what, count in running.expander.problems.items():
        click.echo(f"operator {running.config.operator}: {what} ({count} times)", err=True)
    if running.config.learn and not running.degenerate:
        _learn(store, running)
    return 0 if any(b.node is not None for b in found) else WRONG


def _learn(store: Store, running: Search) -> None:
    """Notes for later searches. What goes wrong is told, and takes nothing from the result."""
    from search.knowledge.folders import learned_folder
    from search.knowledge.learn import learned

    try:
        learned(store, running.id, learned_folder(store.where), running.graph)
    except Exception as error:  # of a disk, a database, or a name that no note may have
        click.echo(f"nothing is learned from this search: {error}", err=True)


def _resume(store: Store, run: str) -> str:
    from search.store.store import DEFAULT

    where = store.where
    return f"ke-gen resume {run}" + (f" --store {where}" if where != DEFAULT else "")


def _warm(
    store: Store, module: Module, program: str, targets: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    from search.warm import similar_chains

    return similar_chains(store, module, program, targets)


def _weights(text: str, names: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = part.partition("=")
        matching = [n for n in names if name in (n, n.partition(".")[0])]
        try:
            weight = float(value)
        except ValueError:
            weight = -1.0
        if not matching or not 0 <= weight < float("inf"):
            known = ", ".join(names)
            raise Fault(BAD_INPUT, f"--weights {part}: not a target and its weight",
                        f"write kea=2,amd=1; targets: {known}")  # fmt: skip
        found |= dict.fromkeys(matching, weight)
    if found and not any(found.get(n, 1.0) for n in names):
        raise Fault(BAD_INPUT, "--weights: all targets have weight 0")
    return found
