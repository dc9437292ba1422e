"""The four replaceable parts of a search, and how they are found.

Each is an entry point: groups ``ke_gen.policies``, ``ke_gen.operators``, ``ke_gen.fitness`` and
``ke_gen.termination`` name classes; a package may offer its own. A part keeps no state that the
graph does not give back, so that a resumed run decides as an uninterrupted one does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from ke_ir.diagnostics import near

if TYPE_CHECKING:
    from search.config import Config
    from search.graph import Node, Score, SearchGraph
    from search.operators.diagnosis import Diagnosis


class PartError(Exception):
    """A part that does not exist or cannot be loaded. ``fix`` says what there is."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


class Memory(StrEnum):
    """What the operator is told about a node: its path, its siblings' fate, both, or nothing."""

    PARENT = "parent"
    SIBLINGS = "siblings"
    BOTH = "both"
    CLEAN = "clean"


@dataclass(frozen=True)
class Pick:
    """A policy's wish: a child of ``parent``, of up to ``steps`` rewrites.

    ``guided``: the operator may weigh rewrites by what bounds the parent; else all are alike.
    ``descend``: it may choose the steps by the analytic model, and take the best it meets.
    """

    parent: str
    steps: int = 1
    memory: Memory = Memory.BOTH
    island: int = 0
    guided: bool = True
    descend: bool = False


class Policy(Protocol):
    """Chooses which nodes to expand. ``oversample`` proposals are ranked for one evaluated.

    ``guided``: drafts, too, may be chosen by diagnosis and model.
    """

    oversample: int
    guided: bool

    def pick(self, view: View, count: int, rng: random.Random) -> Sequence[Pick]:
        """Up to ``count`` picks; the same parent may stand several times. Empty: nothing left."""
        ...

    def observe(self, node: Node, view: View) -> None:
        """Called for each node of a completed round, in order of insertion."""
        ...


class Fitness(Protocol):
    """Makes one number of a node's scores; larger is better, minus infinity for no use."""

    def score(self, node: Node) -> float: ...

    def estimate(self, estimates: Mapping[str, float]) -> float:
        """The same of the analytic model's seconds by target, before anything is run."""
        ...


@dataclass(frozen=True)
class Relative:
    """How a relative fared, as the memory mode allows.

    ``where`` is ``path`` (a step that led to the candidate) or ``child`` (made from it before).
    ``gain`` is in log speed-up over its parent, None for one that failed, with the ``reason``.
    """

    label: str
    kind: str
    where: str
    gain: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Request:
    """What an operator is asked: ``count`` children of ``text``, each by up to ``steps`` rewrites.

    ``guided``, ``descend``: see Pick. ``diagnosis`` is what holds the candidate back, ``bounds``
    its shares (0..1). ``tried`` are labels that need not come again. ``weights`` are those of the
    targets in the fitness, 1 where not given. ``scores`` are the candidate's own, by target.
    """

    text: str
    program: str
    targets: Sequence[str]
    count: int
    steps: int
    seed: str
    guided: bool
    tried: Sequence[str] = ()
    bounds: Mapping[str, float] = field(default_factory=dict)
    descend: bool = False
    dims: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    relatives: Sequence[Relative] = ()
    diagnosis: Diagnosis | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)


@dataclass(frozen=True)
class Proposal:
    """A child: its KE-IR ``text`` and what was done (``label``). Cost in seconds, tokens, money.

    A reply that holds no KE-IR has an ``error`` and whatever text there was. ``kind``,
    ``rationale`` and ``transcript`` are the edge's.
    """

    text: str
    label: str
    kind: str = "rewrite"
    seconds: float = 0.0
    tokens: int = 0
    money: float = 0.0
    error: str = ""
    rationale: str = ""
    transcript: str = ""


@dataclass(frozen=True)
class Proposals:
    """An operator's answer; ``exhausted``: it has nothing else for this parent.

    ``spent`` says why the operator can do no more at all, which ends the search; else empty.
    """

    items: Sequence[Proposal]
    exhausted: bool = False
    spent: str = ""


@dataclass(frozen=True)
class Surroundings:
    """What an operator that runs in the search's own process works with.

    ``work`` runs a task (``module:function``, data) in a worker process, ``keep`` makes a text an
    artifact and gives its digest, by which ``read`` finds it; ``folder`` is where files of its own
    may stay, empty for none. ``tokens`` and ``money`` were spent by earlier sessions of this run.
    """

    config: Config
    work: Callable[[str, Mapping[str, Any]], Any]
    keep: Callable[[str], str]
    folder: str = ""
    tokens: int = 0
    money: float = 0.0
    read: Callable[[str], str] | None = None


class Operator(Protocol):
    """The universal operator. ``in_worker``: ``propose`` is called in a worker process.

    One that is not may have a class method ``connect(surroundings)``, which then makes it, and
    ``propose_all(requests)``, which answers a round's requests at once in the search's own thread.
    A class method ``prepare(config, folder, keep)`` gives the config that a new run is kept with:
    what may change while a run is stopped belongs there.
    """

    in_worker: bool

    def propose(self, request: Request) -> Proposals: ...


@dataclass(frozen=True)
class Progress:
    """What termination looks at. ``fraction`` is of the roofline, the least over the targets."""

    candidates: int
    seconds: float
    stalled: int
    fraction: float
    tokens: int
    money: float


class Termination(Protocol):
    def reason(self, progress: Progress) -> str:
        """Why to stop now; empty to go on."""
        ...


@dataclass
class View:
    """What a policy sees: the graph, scores by fitness, visits and who has nothing more to give."""

    graph: SearchGraph
    fitness: Fitness
    round: int = 0
    visits: dict[str, int] = field(default_factory=dict)
    exhausted: set[str] = field(default_factory=set)
    ranked: list[tuple[float, int, str]] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)

    def open(self) -> list[str]:
        """Nodes that may be expanded, best first; ties in order of insertion."""
        return [k for _, _, k in self.ranked if k not in self.exhausted]


POLICIES, OPERATORS = "ke_gen.policies", "ke_gen.operators"
FITNESS, TERMINATION = "ke_gen.fitness", "ke_gen.termination"


def part_names(group: str) -> tuple[str, ...]:
    """Names of the installed parts of a group, sorted."""
    return tuple(sorted({e.name for e in entry_points(group=group)}))


def find_part(group: str, name: str) -> Callable[..., Any]:
    """The class of a part. Raises PartError naming the near miss."""
    found = {e.name: e for e in entry_points(group=group)}
    kind = group.rpartition(".")[2]
    if name not in found:
        listed = f"{kind}: {', '.join(sorted(found))}"
        raise PartError(f"no {kind} called `{name}`", f"{near(name, found)} {listed}".strip())
    try:
        cls: Callable[..., Any] = found[name].load()
    except Exception as error:
        value = found[name].value
        raise PartError(f"`{name}` of {kind} cannot be loaded from {value}: {error}") from error
    return cls
