"""The structural diff: an edit is reported as that edit, and a renaming as none."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ke_ir.diff import Change, count, diff_modules, render
from ke_ir.ir import Kernel, Module
from ke_ir.ops import Full
from ke_ir.parser import parse
from ke_ir.printer import print_module
from ke_ir.types import DType, TileType
from tests.ir.edits import insertions, removals, renamed, single_changes
from tests.ir.kernel_strategies import kernels
from tests.ir.module_strategies import modules

CALM = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
EDITS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def touched(changes: tuple[Change, ...]) -> dict[str, int]:
    return {k: n for k, n in count(changes).items() if n}


@CALM
@given(modules())
def test_no_difference_from_itself(m: Module) -> None:
    again = parse(print_module(m))
    assert touched(diff_modules(m, again)) == {}
    assert render(diff_modules(m, again)) == ""


@CALM
@given(modules(), st.data())
def test_a_renaming_is_no_difference(m: Module, data: st.DataObject) -> None:
    shuffled = renamed(m, lambda old: data.draw(st.permutations(old)))
    assert touched(diff_modules(m, shuffled)) == {}, render(diff_modules(m, shuffled))


@EDITS
@given(kernels())
def test_a_change_of_one_attribute_is_one_change(k: Kernel) -> None:
    for other in single_changes(k):
        found = diff_modules(Module((k,)), Module((other,)))
        assert touched(found) == {"changed": 1}, render(found)


@EDITS
@given(kernels())
def test_an_insertion_is_one_addition(k: Kernel) -> None:
    op = Full(7, TileType(DType.I32), result="brand_new")
    for other in insertions(k, op):
        found = diff_modules(Module((k,)), Module((other,)))
        assert touched(found) == {"added": 1}, render(found)
        assert "+" in render(found) and "%brand_new = full 7 : i32" in render(found)


@EDITS
@given(kernels())
def test_a_removal_is_one_removal(k: Kernel) -> None:
    for other in removals(k):
        found = diff_modules(Module((k,)), Module((other,)))
        assert touched(found) == {"removed": 1}, render(found)


@CALM
@given(kernels("a"), kernels("b"))
def test_items_are_added_and_removed_whole(a: Kernel, b: Kernel) -> None:
    found = diff_modules(Module((a,)), Module((a, b)))
    assert set(touched(found)) == {"added"}
    back = diff_modules(Module((a, b)), Module((a,)))
    assert touched(back) == {"removed": touched(found)["added"]}


@CALM
@given(kernels("k"), kernels("k"))
def test_any_two_kernels_can_be_compared(a: Kernel, b: Kernel) -> None:
    found = diff_modules(Module((a,)), Module((b,)))
    json.dumps([c.to_dict() for c in found])
    added = [c for c in _flat(found) if c.kind in ("added", "changed")]
    for c in added:
        assert c.after in print_module(Module((b,)))
    lines = [line for line in render(found).splitlines() if line.startswith("-")]
    assert len(lines) >= len([c for c in _flat(found) if c.kind in ("removed", "changed")])


def _flat(changes: tuple[Change, ...]) -> list[Change]:
    return [x for c in changes for x in (c, *_flat(c.inside))]


SOFTMAX = """op @softmax(x: f16[B, D]) -> (y: f16[B, D])
dims B in 1..65536 = 8192, D = 4096
{
  m[b] = max[d](x[b, d])
  e[b, d] = exp(x[b, d] - m[b])
  s[b] = sum[d](e[b, d])
  y[b, d] = e[b, d] / s[b]
}
"""


def test_equations_pair_by_what_they_define() -> None:
    after = SOFTMAX.replace("exp(x[b, d] - m[b])", "exp2(x[b, d] - m[b])").replace(
        "  s[b]", "  extra[b] = m[b] * 2\n  s[b]"
    )
    found = diff_modules(parse(SOFTMAX), parse(after))
    assert touched(found) == {"changed": 1, "added": 1}
    assert render(found) == (
        "  op @softmax(x: f16[B, D]) -> (y: f16[B, D])\n"
        "  dims B in 1..65536 = 8192, D = 4096 {\n"
        "    m[b] = max[d](x[b, d])\n"
        "-   e[b, d] = exp(x[b, d] - m[b])\n"
        "+   e[b, d] = exp2(x[b, d] - m[b])\n"
        "+   extra[b] = m[b] * 2\n"
        "    s[b] = sum[d](e[b, d])\n"
        "    y[b, d] = e[b, d] / s[b]\n"
        "  }"
    )


BODY = """kernel @k(%x: f32[64, 64]) -> (%y: f32[64]) {
  parallel %i = 0 to 64 tile 16 {
    %z = full 0.0 : f32[16]
    %s = for %j = 0 to 64 tile 8 carry (%a = %z) {
      %v = load %x[%i, %j] : f32[16, 8]
      %r = reduce sum %v dim 1
      %n = add %a, %r
      yield %n
    }
    store %s, %y[%i]
  }
}
"""


def test_golden_rendering_of_an_insertion_under_other_names() -> None:
    after = BODY.replace("%v = load %x[%i, %j] : f32[16, 8]\n      %r = reduce sum %v",
                         "%t = load %x[%i, %j] : f32[16, 8]\n      %q = mul %t, %t\n"
                         "      %r = reduce sum %q").replace("%s", "%total")  # fmt: skip
    found = diff_modules(parse(BODY), parse(after))
    assert touched(found) == {"added": 1, "changed": 1}
    assert render(found, context=0) == (
        "  kernel @k(%x: f32[64, 64]) -> (%y: f32[64]) {\n"
        "    parallel %i = 0 to 64 tile 16 {\n"
        "      ... 1 unchanged\n"
        "      %total = for %j = 0 to 64 tile 8 carry (%a = %z) {\n"
        "        ... 1 unchanged\n"
        "+       %q = mul %t, %t\n"
        "-       %r = reduce sum %v dim 1\n"
        "+       %r = reduce sum %q dim 1\n"
        "        ... 2 unchanged\n"
        "      }\n"
        "      ... 1 unchanged\n"
        "    }\n"
        "  }"
    )


def test_golden_rendering_of_a_new_tile_size() -> None:
    found = diff_modules(
        parse(BODY), parse(BODY.replace("tile 8", "tile 4").replace(", 8]", ", 4]"))
    )
    assert touched(found) == {"changed": 2}
    text = render(found)
    assert "-     %s = for %j = 0 to 64 tile 8 carry (%a = %z) {" in text
    assert "+     %s = for %j = 0 to 64 tile 4 carry (%a = %z) {" in text


def test_the_style_sees_each_line_once() -> None:
    other = replace(parse(BODY).items[0], name="k2")  # type: ignore[type-var]
    found = diff_modules(parse(BODY), Module((other,)))  # type: ignore[arg-type]
    seen: list[tuple[str, str]] = []

    def style(kind: str, line: str) -> str:
        seen.append((kind, line))
        return line.upper()

    text = render(found, style)
    assert text == text.upper() and len(seen) == len(text.splitlines())
    assert {k for k, _ in seen} == {"added", "removed"}


def test_structured_form_leaves_out_what_did_not_change() -> None:
    found = diff_modules(parse(BODY), parse(BODY.replace("reduce sum", "reduce max")))
    (kernel,) = [c.to_dict() for c in found]
    assert kernel["kind"] == "same"
    text = json.dumps(kernel)
    assert "reduce max" in text and "load" not in text
