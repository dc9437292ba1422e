"""The grammar lets through KE-IR and nothing that never ends; the schema says what a reply is."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from ke_ir.diagnostics import IRError
from ke_ir.ir import Module
from ke_ir.ops import REGISTRY
from ke_ir.parser import parse
from ke_ir.printer import print_item
from search.candidates import roots
from search.llm.grammar import reply_grammar, reply_schema
from search.llm.reply import EDIT, KERNEL, REWRITE, decide

EXAMPLES = Path(__file__).parents[2] / "examples"
FORMS = (REWRITE, EDIT, KERNEL)
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\{\d+(?:,\d+)?\}|[?()|]|[\w-]+|\S')


def derived(name: str) -> Module:
    return roots(parse((EXAMPLES / f"{name}.ir").read_text()), name)[-1]


def rules_of(grammar: str) -> dict[str, list[str]]:
    split = (line.split(" ::= ", 1) for line in grammar.splitlines())
    return {name: TOKEN.findall(body) for name, body in split}


class Sampler:
    """Random texts of a GBNF, and a regular expression for it: it has no recursion."""

    def __init__(self, grammar: str) -> None:
        self.rules = {n: self._alternatives(list(t)) for n, t in rules_of(grammar).items()}

    def _alternatives(self, tokens: list[str]) -> Any:
        """('any', [('all', [(what, low, high), ...]), ...]); takes the tokens it reads."""
        found: list[list[Any]] = [[]]
        while tokens and tokens[0] != ")":
            t = tokens.pop(0)
            if t == "|":
                found.append([])
                continue
            what: Any = t
            if t == "(":
                what = self._alternatives(tokens)
                tokens.pop(0)
            low, high = 1, 1
            if tokens and (tokens[0] == "?" or tokens[0].startswith("{")):
                bounds = "0,1" if (b := tokens.pop(0)) == "?" else b[1:-1]
                low, high = (int(bounds.split(",")[0]), int(bounds.split(",")[-1]))
            found[-1].append((what, low, high))
        return found

    def text(self, what: Any, rng: random.Random) -> str:
        if isinstance(what, list):
            out = []
            for part, low, high in rng.choice(what):
                count = rng.randint(low, min(high, low + 3))
                out += [self.text(part, rng) for _ in range(count)]
            return "".join(out)
        if what.startswith('"'):
            return str(json.loads(what))
        if what.startswith("["):
            if what.startswith("[^"):
                return rng.choice("abc ,%{}")
            return rng.choice([c for c in map(chr, range(32, 127)) if re.fullmatch(what, c)])
        return self.text(self.rules[what], rng)

    def pattern(self, what: Any) -> str:
        if isinstance(what, list):
            alternatives = (
                "".join(f"{self.pattern(p)}{{{low},{high}}}" for p, low, high in parts)
                for parts in what
            )
            return f"(?:{'|'.join(alternatives)})"
        if what.startswith('"'):
            return f"(?:{re.escape(json.loads(what))})"
        return what if what.startswith("[") else f"(?:{self.pattern(self.rules[what])})"


@pytest.mark.parametrize("name", ["rms_norm", "attention"])
@pytest.mark.parametrize("forms", [FORMS, (REWRITE,), (KERNEL,), (EDIT, KERNEL)])
def test_rules_are_defined_and_repetitions_bounded(name: str, forms: tuple[str, ...]) -> None:
    rules = rules_of(reply_grammar(derived(name), name, 28, forms))
    seen: set[str] = set()
    left = ["root"]
    while left:
        if (rule := left.pop()) in seen:
            continue
        seen.add(rule)
        for t in rules[rule]:
            assert t not in ("+", "*"), rule
            if re.fullmatch(r"[\w-]+", t):
                assert t in rules, f"{rule} uses {t}"
                left.append(t)
    assert seen == set(rules)


def test_there_is_no_recursion() -> None:
    rules = rules_of(reply_grammar(derived("rms_norm"), "rms_norm", 3, FORMS))

    def walk(rule: str, path: tuple[str, ...]) -> None:
        assert rule not in path
        for t in set(rules[rule]):
            if t in rules:
                walk(t, (*path, rule))

    walk("root", ())


def test_all_op_kinds_are_in_it() -> None:
    grammar = reply_grammar(derived("rms_norm"), "rms_norm", 3, (KERNEL,))
    assert all(f'"{m}"' in grammar for m in REGISTRY)


def test_what_it_lets_through_can_be_read() -> None:
    """Random texts of the grammar have KE-IR's form: what may be wrong is their meaning."""
    module = derived("attention")
    op = print_item(module.ops["attention"])
    sampler = Sampler(reply_grammar(module, "attention", 28, (KERNEL,)))
    rng = random.Random(0)
    for _ in range(60):
        text = sampler.text("kernel", rng)
        try:
            parse(text + op)
        except IRError as error:
            assert error.diagnostics[0].code == "tile-size", error


def test_programs_that_it_lets_through_can_be_read() -> None:
    """Kernels with arguments of their own, temporaries, and calls, also repeated ones."""
    module = derived("attention")
    op = print_item(module.ops["attention"])
    sampler = Sampler(reply_grammar(module, "attention", 0, (KERNEL,), statements=3))
    rng = random.Random(2)
    seen: set[str] = set()
    for _ in range(60):
        text = sampler.text("program", rng)
        seen |= set(re.findall(r"\b(?:repeat|once|temp|call|dims|accumulate|yield)\b", text))
        assert decide(text).ir == text
        try:
            parse(text + op)
        except IRError as error:
            first = error.diagnostics[0]
            named = first.message.endswith("is a word of the language")
            assert named or first.code in ("tile-size", "duplicate"), error
    assert seen == {"repeat", "once", "temp", "call", "dims", "accumulate", "yield"}


def test_derived_programs_are_in_the_grammar() -> None:
    name = "attention"
    module = derived(name)
    sampler = Sampler(reply_grammar(module, name, 3, (KERNEL,)))
    program = module.programs[name]
    parts = [print_item(k, module.items) for k in module.kernels.values()]
    assert len(parts) == 3
    text = "".join(parts) + print_item(program, module.items)
    assert re.fullmatch(sampler.pattern("program"), text)
    assert not re.fullmatch(sampler.pattern("program"), text.replace("call", "cal"))
    assert not re.fullmatch(sampler.pattern("program"), text.replace("-> (%o:", "-> (%p:"))


def test_sampled_decisions_are_decisions() -> None:
    sampler = Sampler(reply_grammar(derived("rms_norm"), "rms_norm", 28, (REWRITE, EDIT)))
    rng = random.Random(1)
    kinds = set()
    for _ in range(100):
        found = decide(sampler.text("root", rng))
        kinds.add(found.kind)
        assert all(1 <= n <= 28 for n in found.rewrites)
    assert kinds == {REWRITE, EDIT}


@pytest.mark.parametrize("name", ["rms_norm", "softmax", "layer_norm", "matmul_gelu", "conv1d"])
def test_derived_kernels_are_in_the_grammar(name: str) -> None:
    module = derived(name)
    if name not in module.kernels:
        pytest.skip("derived as several kernels")
    sampler = Sampler(reply_grammar(module, name, 3, (KERNEL,)))
    text = print_item(module.kernels[name], module.items)
    assert re.fullmatch(sampler.pattern("root"), text)
    assert not re.fullmatch(sampler.pattern("root"), text.replace("parallel", "paralel"))


def test_schema() -> None:
    schema = reply_schema(28, FORMS)
    assert schema["required"] == ["rationale", "action", "rewrites", "edits", "ir"]
    assert schema["properties"]["rewrites"]["items"]["maximum"] == 28
    assert schema["properties"]["action"]["enum"] == list(FORMS)
    alone = reply_schema(28, (REWRITE,))
    assert alone["properties"]["rewrites"]["minItems"] == 1 and "ir" not in alone["properties"]
    assert reply_schema(0, FORMS)["properties"]["action"]["enum"] == [EDIT, KERNEL]
    assert json.loads(json.dumps(schema)) == schema
