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
    """A request for one reply of at most ``max_tokens``. ``seed`` is passed to the server."""

    messages: tuple[Message, ...]
    constraint: Constraint = field(default_factory=Constraint)
    max_tokens: int = 2048
    temperature: float = 0.7
    seed: int = 0


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    ``finish`` is the server's own word for why the reply ended (``stop``, ``length``). ``money``
    is in the unit of the prices given, ``seconds`` is wall clock, 0 when ``cached``. ``error`` is
    not empty when nothing usable came; faults of a server are told here and never raised.
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


@dataclass(frozen=True)
class LlmConfig:
    """What a run's operator ``llm`` works with; kept with the run, and holds no secret.

    ``models`` are (name, weight) pairs that share the prompts. The key is read from the variable
    ``key_env`` of the environment. ``prompt_tokens`` and ``reply_tokens`` bound one request,
    ``mends`` how often a reply that cannot be used is sent back with what is wrong. ``retries``,
    ``timeout`` (seconds) and ``concurrency`` are of requests to the server; prices are per million
    tokens. ``knowledge`` are folders of notes beside ke-gen's own.
    """

    base_url: str = ""
    models: tuple[tuple[str, float], ...] = ()
    mode: Mode = "json_schema"
    key_env: str = "OPENAI_API_KEY"
    prompt_tokens: int = 12_000
    reply_tokens: int = 4_000
    temperature: float = 0.7
    mends: int = 2
    timeout: float = 120.0
    retries: int = 3
    concurrency: int = 8
    price_in: float = 0.0
    price_out: float = 0.0
    knowledge: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LlmConfig:
        """The inverse of ``dataclasses.asdict``, from plain JSON types."""
        models = tuple((str(name), float(weight)) for name, weight in data["models"])
        return cls(**{**data, "models": models, "knowledge": tuple(data["knowledge"])})
