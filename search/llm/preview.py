"""The first prompt of a search, before anything has run: what it costs, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ke_ir.parser import parse
from search.candidates import roots, text_of
from search.graph import Score
from search.llm.prompt import Asked
from search.operators.diagnosis import diagnose
from search.operators.llm import ask_for, knowledge_of, style_of
from search.operators.offers import offers_of
from search.parts import Request
from targets.base import TargetError
from targets.registry import find_target, knobs_for

if TYPE_CHECKING:
    from ke_ir.ir import Module
    from search.config import Config


def preview(config: Config, text: str) -> Asked:
    """For a child of the last root of ``text``, diagnosed by the analytic models.

    Raises PromptTooLarge.
    """
    module = roots(parse(text), config.program)[-1]
    scores = _estimated(config, module)
    diagnosis = diagnose(scores)
    request = Request(
        text=text_of(module), program=config.program, targets=config.targets, count=1, steps=1,
        seed=f"{config.seed}/1/0", guided=True, bounds=diagnosis.bounds, dims=config.dims,
        weights=config.weights, diagnosis=diagnosis, scores=scores,
    )  # fmt: skip
    offered = [str(r) for r in offers_of(request.text).left(set())]
    with knowledge_of(config.llm, "") as knowledge:
        return ask_for(request, module, offered, knowledge, style_of(config.llm), config.seed)


def _estimated(config: Config, module: Module) -> dict[str, Score]:
    entry = module.programs[config.program]
    sizes = entry.sizes(config.dims)
    found = {}
    for name in config.targets:
        target = find_target(name)
        try:
            t = target.estimate(module, entry, knobs_for(target, module, entry), sizes)
        except TargetError:
            continue
        found[name] = Score(t.seconds, t.kind.value, t.on, detail=t.detail)
    return found
