"""Options of ``ke-gen search`` for the operator ``llm``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ke_gen.faults import BAD_INPUT, Fault
from ke_gen.llm_models import check_money, models_of

if TYPE_CHECKING:
    from search.config import Config
    from search.llm.types import LlmConfig

F = TypeVar("F", bound=Callable[..., Any])
_MODES = ("json_schema", "gbnf", "vllm", "none")


def llm_options(command: F) -> F:
    """All of them; those that are stored with a run come as keyword arguments of ``llm_config``."""
    options = (
        click.option("--model", "models", metavar="[PHASE+...=]NAME[:WEIGHT],...", default="",
                     help="Language models that share the prompts, for --operator llm; those of "
                     "a PHASE (draft, refine, repair) by WEIGHT."),
        click.option("--base-url", metavar="URL", default="",
                     help="Any OpenAI-compatible server, as in http://127.0.0.1:8080/v1."),
        click.option("--mode", type=click.Choice(_MODES), default=_MODES[0], show_default=True,
                     help="How the server holds a reply to its form."),
        click.option("--key-env", metavar="NAME", default="OPENAI_API_KEY", show_default=True,
                     help="The environment variable that holds the key."),
        click.option("--prompt-tokens", metavar="N", default=12_000, show_default=True,
                     type=click.IntRange(200), help="The longest prompt, estimated."),
        click.option("--reply-tokens", metavar="N", default=4_000, show_default=True,
                     type=click.IntRange(16), help="The longest reply."),
        click.option("--temperature", metavar="X", default=0.7, show_default=True,
                     type=click.FloatRange(0, 2), help="Of the model's choices."),
        click.option("--mends", metavar="N", default=2, show_default=True,
                     type=click.IntRange(0, 10),
                     help="How often a reply that cannot be used is sent back."),
        click.option("--price-in", metavar="[NAME=]P,...", default="",
                     help="Price of a million tokens of prompts, by model where they differ."),
        click.option("--price-out", metavar="[NAME=]P,...", default="",
                     help="Price of a million tokens of replies, by model where they differ."),
        click.option("--knowledge", "folders", metavar="DIR", multiple=True,
                     type=click.Path(exists=True, file_okay=False),
                     help="A folder of notes beside ke-gen's own; may be repeated."),
        click.option("--dry-run", is_flag=True,
                     help="Print the first prompt and its size, and ask nobody."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def llm_config(
    operator: str, money: float, models: str, price_in: str, price_out: str,
    folders: tuple[str, ...], **given: Any,
) -> LlmConfig:  # fmt: skip
    """The settings of a run. Raises Fault where a model is named in vain, or is lacking."""
    from search.llm.types import LlmConfig

    named = models_of(models, price_in, price_out)
    if named and operator == "rules":
        raise Fault(BAD_INPUT, "--model is for the operator that asks one", "add --operator llm")
    if operator == "llm" and not named:
        raise Fault(BAD_INPUT, "--operator llm needs a model", "give --model NAME")
    if money:
        check_money(named, price_in, price_out)
    return LlmConfig(models=named, knowledge=folders, **given)


def print_prompt(config: Config, text: str) -> int:
    """The first prompt of a search, and what it would take."""
    from search.llm.preview import preview
    from search.llm.prompt import PromptTooLarge

    try:
        asked = preview(config, text)
    except PromptTooLarge as error:
        raise Fault(BAD_INPUT, str(error), "give it more --prompt-tokens") from None
    for m in asked.prompt.messages:
        print(f"--- {m.role}\n{m.content}")
    p = asked.prompt
    print(
        f"--- about {asked.tokens} tokens; a reply of at most {p.max_tokens}; mode "
        f"{p.constraint.mode}; {len(asked.menu)} rewrites; forms: {', '.join(asked.forms)}"
    )
    return 0
