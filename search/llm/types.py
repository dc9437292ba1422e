"""What is sent to a language model, and what comes back: the words all of ``search.llm`` uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Mode = Literal["json_schema", "gbnf", "vllm", "none"]
MODES: tuple[str, ...] = get_args(Mode)


@dataclass(frozen=True)
class Message:
    """One turn of a chat; ``role`` is ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


@dataclass(frozen=True)
class Constraint:
    """What holds the reply's form on the server's side.

    ``json_schema`` and ``vllm`` send ``schema``; ``gbnf`` sends ``grammar`` (llama.cpp's notation);
    ``none`` sends neither. A reply is checked here in any case.
    """

    mode: Mode = "none"
    schema: Mapping[str, Any] | None = None
    grammar: str = ""


@dataclass(frozen=True)
class Prompt:
    """A request for one reply of at most ``max_tokens``. ``seed`` is passed to the server.

    ``phase`` is that of the search (``draft``, ``refine``, ``repair``), by which models are chosen;
    empty where none is known.
    """

    messages: tuple[Message, ...]
    constraint: Constraint = field(default_factory=Constraint)
    max_tokens: int = 2048
    temperature: float = 0.7
    seed: int = 0
    phase: str = ""


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    ``finish`` is the server's own word for why the reply ended (``stop``, ``length``). ``money``
    is in the unit of the prices given, ``seconds`` is wall clock, 0 when ``cached``. ``error`` is
    not empty when nothing usable came; faults of a server are told here and never raised.
    ``claimed`` is not 0 where the server claims more tokens than it was allowed; of these,
    ``tokens_in`` and ``tokens_out`` are what the budget still had room for.
    """

    text: str = ""
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    money: float = 0.0
    seconds: float = 0.0
    cached: bool = False
    finish: str = ""
    error: str = ""
    claimed: int = 0


@dataclass(frozen=True)
class Model:
    """One of the models that share the prompts of a phase, by ``weight``.

    With ``phases`` it is asked in these alone; without, in those that no model is named for. Prices
    are per million tokens.
    """

    name: str
    weight: float = 1.0
    phases: tuple[str, ...] = ()
    price_in: float = 0.0
    price_out: float = 0.0

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """In the unit of the prices."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6


@dataclass(frozen=True)
class LlmConfig:
    """What a run's operator ``llm`` works with; kept with the run, and holds no secret.

    ``models`` share the prompts. The key is read from the variable ``key_env`` of the environment.
    ``prompt_tokens`` and ``reply_tokens`` bound one request, ``mends`` how often a reply that
    cannot be used is sent back with what is wrong. ``retries``, ``timeout`` (seconds) and
    ``concurrency`` are of requests to the server. ``knowledge`` are folders of notes beside
    ke-gen's own; ``notes`` is the artifact that has all notes but ke-gen's own as they were when
    the run began, empty where they are read anew.
    """

    base_url: str = ""
    models: tuple[Model, ...] = ()
    mode: Mode = "json_schema"
    key_env: str = "OPENAI_API_KEY"
    prompt_tokens: int = 12_000
    reply_tokens: int = 4_000
    temperature: float = 0.7
    mends: int = 2
    timeout: float = 120.0
    retries: int = 3
    concurrency: int = 8
    knowledge: tuple[str, ...] = ()
    notes: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LlmConfig:
        """The inverse of ``dataclasses.asdict``, from plain JSON types."""
        kept = dict(data)
        # Runs of earlier versions have one price for all models, and these as pairs.
        prices = {k: kept.pop(k) for k in ("price_in", "price_out") if k in kept}
        models = [
            m if isinstance(m, Mapping) else {"name": m[0], "weight": m[1], "phases": (), **prices}
            for m in kept["models"]
        ]
        kept["models"] = tuple(Model(**{**m, "phases": tuple(m["phases"])}) for m in models)
        return cls(**{**kept, "knowledge": tuple(kept["knowledge"])})
