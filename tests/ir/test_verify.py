"""Every diagnostic there is: what it says, where it points, what it expects and suggests.

In the sources below « and » enclose what the caret must underline; they are removed first.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from ke_ir.diagnostics import MAX_ERRORS, Diagnostic, IRError
from ke_ir.parser import parse
from ke_ir.verify import check, verify

ROOT = Path(__file__).parents[2]
CHECKED = [*sorted((ROOT / "ke_ir").glob("*.py")), *sorted((ROOT / "ke_ir" / "ops").glob("*.py"))]


def diagnose(text: str) -> tuple[Diagnostic, ...]:
    try:
        return verify(parse(text, "k.ir"))
    except IRError as e:
        return e.diagnostics


@dataclass(frozen=True)
class Case:
    """A source, and what its first diagnostic must be."""

    code: str
    text: str
    message: str
    expected: str = ""
    hint: str = ""


def kernel(body: str, head: str = "%x: f32[64], %n: i32[64], %m: i1[64]") -> str:
    return (
        f"kernel @k({head}) -> (%y: f32[64]) {{\n  parallel %i = 0 to 64 tile 16 {{\n"
        f"    {body}\n    store 1.0, %y[%i]\n  }}\n}}\n"
    )


def value(statement: str) -> str:
    """A kernel with the values %f: f32[16], %g: f32[16, 1], %j: i32[16], %b: i1[16]."""
    return kernel(
        "%f = load %x[%i] : f32[16]\n    %g = expand %f dim 1\n    %j = iota %i : i32[16]\n"
        f"    %b = load %m[%i] : i1[16]\n    {statement}"
    )


def op(equation: str, dims: str = "N = 64, K = 3") -> str:
    return (
        "op @f(x: f32[N], w: f32[N, K], n: i32[N], m: i1[N]) -> (y: f32[N])\n"
        f"dims {dims}\n{{\n  {equation}\n}}\n"
    )


COPY = """kernel @copy(%a: f32[D]) -> (%b: f32[D]) dims D = 4 {
  parallel %i = 0 to D tile 4 {
    store load %a[%i] : f32[4], %b[%i]
  }
}
"""


def program(body: str) -> str:
    return f"{COPY}program @p(%x: f32[T, 4]) -> (%y: f32[4])\ndims T = 3\n{{\n  {body}\n}}\n"


DONE = "\n  call @copy(%x[0]) -> (%y)"

CASES = [
    # Form.
    Case("syntax", kernel("%v = «laod» %x[%i] : f32[16]"), "unexpected `laod`", "a statement",
         "did you mean `load`?"),
    Case("syntax", kernel("%v = load «x»[%i] : f32[16]"), "unexpected `x`", "such as `%x`",
         "write `%x`"),
    Case("syntax", kernel("%v = load %x[%i «:» f32[16]"), "unexpected `:`", "`else`, `]`"),
    Case("syntax", kernel("%v = load %x[%i] : «f31»[16]"), "unexpected `f31`", "f32",
         "did you mean `f32`?"),
    Case("syntax", kernel("%v = reduce «summ» %x dim 0"), "unexpected `summ`", "argmax",
         "did you mean `sum`?"),
    Case("syntax", kernel("%v = load %x[%i] : f32[«T»]"), "unexpected `T`", "an integer",
         "sizes of tiles are fixed numbers"),
    Case("syntax", kernel("%a, %b = «exp» %x"), "only a `for` gives several values", "`for`"),
    Case("syntax", kernel("%a = «store» %x, %y[%i]"), "`store` gives no value"),
    Case("syntax", kernel("%a = add «store» %x, %y[%i]"), "`store` gives no value"),
    Case("syntax", kernel("%a = load %x[%i else «%i»] : f32[16]"), "`else` in a kernel takes"),
    Case("syntax", "kernel @k(%x: f32[4]) -> (%y: f32[4]) «{»", "this `{` is never closed", "`}`"),
    Case("syntax", "kernle".join("«»") + " @k()", "unexpected `kernle`", "`kernel`",
         "did you mean `kernel`?"),
    Case("syntax", "# nothing\n«»", "the file has no op and no kernel", "`op @name(...)`"),
    Case("syntax", op("y[i] = x[i] «$» 2"), "unexpected character '$'"),
    Case("syntax", op("y[i] = «%»x[i]").replace("%»x", "%x»"), "unexpected `%x`", "an expression",
         "names in an `op` have no %"),
    Case("syntax", op("y[i] = «sum»(x[i])"), "`sum` needs its indices", "`sum[i](...)`"),
    Case("syntax", op("y[i] = select(0 < i «<» 3, 1, 0)"), "comparisons do not chain", "`and`"),
    Case("syntax", op("y[i] = «" + "1" * 41 + "»"), "a number of 41 digits", "at most 40"),
    Case("syntax", op("y[«else»] = 1"), "`else` is a word of the language", "another name"),
    Case("syntax", op("y[i] = x[i]", "«N in 1..9 = K»"), "a dim with a range has a number as its"),
    Case("too-deep", op("y[i] = " + "(" * 60 + "(«x»[i]" + ")" * 61), "nested more than 60 deep",
         hint="give a part its own equation"),
    Case("too-deep", op("y[i] = " + "-" * 60 + "-«x»[i]"), "nested more than 60 deep"),
    Case("too-deep", op("y[i] = x[i]" + " + 1" * 200 + " + «1»"), "more than 200 operators"),
    Case("too-deep", kernel("%v = " + "exp " * 61 + "«exp» %f"), "ops nested more than 60 deep"),
    Case("too-deep", kernel("for %a = 0 to 1 { " * 38 + "for %a = 0 to 1 {" + "«{»"), ""),
    Case("unknown-function", op("y[i] = «sqr»(x[i])"), "no function `sqr`", "sqrt",
         "did you mean `sqrt`?"),
    Case("unknown-function", kernel("for %a = 0 to «ned»(%i) { }"), "no function of indices `ned`",
         "begin, end, max, min", "did you mean `end`?"),
    Case("arity", op("y[i] = «exp(x[i], 2)»"), "`exp` takes 1 argument, found 2"),
    Case("tile-size", kernel("%v = full 0.0 : f32[«0»]"), "a tile of size 0", "1 to 16777216"),
    Case("unused-result", kernel("«exp» %x"), "`exp` gives a value", "`%name = exp ...`",
         "name its result"),
    # Signatures.
    Case("duplicate", "op @f(x: f32[4], «x: f32[4]») -> (y: f32[4]) { y[i] = x[i] }",
         "two tensors are named `x`", hint="rename one"),
    Case("duplicate", op("y[i] = x[i]", "N = 64, K = 3, «N = 2»"), "dim `N` is declared twice"),
    Case("duplicate", "op @f(«N: f32[4]») -> (y: f32[N]) dims N = 4 { y[i] = 1 }",
         "`N` is both a tensor and a dim"),
    Case("duplicate", COPY + COPY.replace("kernel @copy", "«kernel @copy»"),
         "two kernel or programs @copy", hint="rename one"),
    Case("no-output", "«op @f»(x: f32[4]) -> () { }", "@f has no output", "at least one output"),
    Case("size", "op @f(«x: f32[N - 4]») -> (y: f32[N]) dims N = 4 { y[i] = 1 }",
         "`x` has a dimension of size 0", "sizes from 1"),
    Case("syntax", "op @f(x: f32«[»%N]) -> (y: f32[N]) dims N = 4 { y[i] = x[i] }",
         "the size of a tensor has the variable `%N`", "dims"),
    Case("size", op("y[i] = x[i]", "«N = 0», K = 3"), "dim `N` has size 0", "1 to"),
    Case("size", op("y[i] = x[i]", "N = «9 // (2 - 2)», K = 3"), "division by zero in"),
    Case("size", op("y[i] = x[i]", "N = «" + "*".join(["9" * 30] * 9) + "», K = 3"),
         "is beyond 64 bits"),
    Case("unknown-dim", "op @f(x: f32[«NN»]) -> (y: f32[N]) dims N = 4 { y[i] = 1 }",
         "there is no dim `NN`", "N", "did you mean `N`?"),
    Case("unknown-dim", "op @f(x: f32[«Q»]) -> (y: f32[N]) dims N = 4 { y[i] = 1 }",
         "there is no dim `Q`", "N", "declare it: `dims Q = SIZE`"),
    Case("coordinate", "op @f(x: f32[«N / 2»]) -> (y: f32[N]) dims N = 4 { y[i] = 1 }",
         "`N / 2` is not an integer expression", "integers with + - * // %", "use `//`"),
    Case("dim-range", op("y[i] = x[i]", "«N in 9..3 = 4», K = 3"), "dim `N` has the range 9..3",
         "1 <= low <= high"),
    Case("dim-range", op("y[i] = x[i]", "«N in 1..9 = 64», K = 3"), "the default 64 of dim `N`",
         "1 to 9"),
    # Ops.
    Case("undefined", op("y[i] = «z[i]»"), "there is no tensor `z` here", "m, n, w, x"),
    Case("undefined", op("y[i] = x[«k»]"), "`k` is neither a dim nor an index", "i, K, N"),
    Case("undefined", op("y[i] = «w» * 2"), "`w` is neither", hint="give its indices: `w[i, j]`"),
    Case("undefined", "op @f(x: f32[4]) -> («y: f32[4]») { z[i] = x[i] }",
         "no equation defines the output `y`", "`y[...] = ...`"),
    Case("undefined", op("t[i] = «u[i]»\n  u[i] = x[i]\n  y[i] = t[i]"), "there is no tensor `u`",
         hint="it is defined below; move that equation up"),
    Case("redefined", op("y[i] = x[i]\n  «y[i]» = x[i]"), "`y` is defined above"),
    Case("recurrence", op("y[i] = x[i] + «y[i]»"), "`y[i]` is not known yet at this step",
         "`i - 1` for `i`"),
    Case("redefined", op("«x[i]» = 1"), "`x` is an input"),
    Case("redefined", op("«N[i]» = x[i]"), "`N` is a dim"),
    Case("redefined", op("y[i] = sum[«i»](x[i])"), "index `i` is bound twice", "another name",
         "each element is defined once"),
    Case("redefined", op("y[i] = sum[«w»](x[i])"), "`w` is a tensor, not an index"),
    Case("rank", op("«y[i, j]» = x[i]"), "`y` is declared f32[N] but defined with 2 indices",
         "1 indices"),
    Case("rank", op("y[i] = «w[i]»"), "`w` has 2 dimensions but 1 indices", "2 indices"),
    Case("kind", op("y[i] = x[«i / 2»]"), "`i / 2` is a float; an index of `x` must be",
         "an integer", "use `//`"),
    Case("kind", op("«y[i]» = i < 3"), "`y` is f32, but the equation gives a bool", "a float",
         "select(c, 1, 0)"),
    Case("kind", op("y[i] = 1 + («i < 3»)"), "an operand of `+` is a condition", "a number"),
    Case("kind", op("y[i] = select(m[i], «i < 3», x[i])"), "`select` between a bool and a float"),
    Case("kind", op("y[i] = select(m[i - 1 else «0»], 1, 0)"), "`else` gives a int, but `m`"),
    Case("kind", op("y[i] = select(«x[i]», 1, 0)"), "the condition of `select` must be"),
    Case("arity", op("«y[i]» = argmax[a, b](w[a, b])"), "`argmax` over 2 indices", "one index"),
    Case("division", op("y[i] = i % «0»"), "`%` by zero", "another divisor"),
    Case("division", op("y[i] = i // («K - 3»)"), "`//` by zero", "another divisor"),
    Case("unknown-range", op("y[i] = sum[«k»](x[i])"), "nothing says what `k` ranges over",
         "`k in 0 to SIZE`"),
    Case("range", op("y[i] = sum[«k»](x[k] * w[i, k])"), "`k` ranges to `N` in `x` but to `K`",
         "equal sizes"),
    Case("range", op("y[«i in 1 to N»] = x[i]"), "`i` starts at `1`", "0"),
    Case("range", op("y[«i in 0 to K»] = x[i]"), "the declared size of `y` is `N`", "N",
         "every element must be defined"),
    Case("range", op("t[«i in 0 to n[0]»] = x[i]\n  y[i] = x[i]"), "ranges to `n[0]`", "a size"),
    Case("range", op("t[«i in 0 to K - 3»] = x[i]\n  y[i] = x[i]"), "which is 0", "a size"),
    Case("range", op("y[i] = sum[k in 0 to 2](x[k]) + sum[«k in 0 to 3»](x[k])"),
         "two reductions in one equation use `k`", "another name"),
    Case("out-of-range", op("y[i] = x[«i + 1»]"), "index 0 of `x`, `i + 1`, can be outside 0 to 63",
         "0 to 63", "`else 0`"),
    Case("out-of-range", op("y[i] = x[«i + 64» else 0]"), "is always outside 0 to 63"),
    # Kernels.
    Case("kernel-body", "kernel @k(%x: f32[4]) -> (%y: f32[4]) {\n  «store 1.0, %y[0]»\n}",
         "is not one `parallel`", "one `parallel", "`parallel %i = 0 to 1"),
    Case("never-written", "«kernel @k»(%x: f32[4]) -> (%y: f32[4]) { parallel %i = 0 to 4 { } }",
         "no statement writes the output %y", "`store VALUE, %y[...]`"),
    Case("never-written", kernel("").replace("store 1.0, %y[%i]", "«store 1.0, %y[%i]»").replace(
         "0 to 64", "0 to 48"), "has 64 elements, but only 0 to 47 are stored", "0 to 63"),
    Case("never-written", "kernel @k() -> (%y: f32[9]) { parallel %i = 0 to 1 {\n"
         "«store 1.0, %y[0]» } }", "has 9 elements, but only 0 to 0 are stored", "0 to 8"),
    Case("stored-twice", kernel("for %k = 0 to 3 {\n«store 1.0, %y[%i]»\n}"),
         "each element of %y would be stored 3 times: %k is not among", hint="`accumulate`"),
    Case("mixed-writes", kernel("«accumulate add 1.0, %y[%i]»".join(("store 1.0, %y[%i]\n", ""))),
         "%y is both stored and accumulated", "one of the two"),
    Case("mixed-writes", value("accumulate add 1.0, %y[%i]\n«accumulate max 1.0, %y[%i]»"),
         "%y is accumulated in two ways"),
    Case("reads-output", value("«%o = load %y[%i] : f32[16]»"), "the kernel reads its output %y",
         "an input", "use a `temp`"),
    Case("writes-input", value("«store 1.0, %x[%i]»"), "the kernel writes its input %x"),
    Case("out-of-range", value("«%o = load %x[%i + 64] : f32[16]»"), "is always outside 0 to 63"),
    Case("out-of-range", value("«%o = load %x[64] : f32»"), "always outside 0 to 63", "0 to 63"),
    Case("nested-parallel", kernel("«parallel %k = 0 to 3» { }"), "`parallel` inside a loop",
         "`for`"),
    Case("order", kernel("").replace("parallel %i = 0 to 64 tile 16",
         "«parallel %i = 0 to 64 tile 16 order grouped(4)»"), "`order grouped` of one variable"),
    Case("yield", kernel("yield %i\n").replace("yield %i", "«yield %i»"), "is not at the end of"),
    Case("yield", value("for %k = 0 to 3 { «yield %f» }"), "carries 0 values, but yields 1"),
    Case("yield", value("%r = for %k = 0 to 3 carry (%c = %f) { «yield %g» }"),
         "%c is carried as f32[16], but %g is f32[16, 1]", "f32[16]"),
    Case("yield", kernel("").replace("%y[%i]\n", "%y[%i]\n«yield 1.0»\n"),
         "`yield` in a `parallel`"),
    Case("carry", value("«%r, %s = for %k = 0 to 3 carry (%c = %f)» { yield %f }"),
         "the loop carries 1 values and gives 2", "1 results"),
    Case("redefined", value("«%f = exp %f»"), "%f is already defined here", "another name"),
    Case("redefined", value("«%x = exp %f»"), "%x is a tensor of the kernel"),
    Case("redefined", value("for %l = 0 to 2 { }\n «%l = exp %f»"),
         "%l is a loop variable elsewhere in the kernel", "another name"),
    Case("undefined", value("«%o = exp %ff»"), "%ff is not defined here", "a value in scope",
         "did you mean `f`?"),
    Case("undefined", value("«%o = load %x[%ij] : f32[16]»"), "%ij is not defined here",
         hint="did you mean `j`?"),
    Case("unknown-tensor", value("«%o = load %z[%i] : f32[16]»"), "the kernel has no tensor %z",
         "%x, %n, %m, %y"),
    Case("loop-variable", value("«%o = exp %i»"), "%i is a loop variable, not a value",
         hint="`iota %i : i32[16]`"),
    Case("tensor-operand", value("«%o = exp %x»"), "%x is a tensor, not a value",
         hint="`load %x[...]`"),
    Case("not-a-loop", value("«%o = iota %f : i32[16]»"), "%f is not a loop variable"),
    Case("iota-type", value("«%o = iota %i : f32[16]»"), "`iota %i` cannot be f32[16]",
         "i32[16], i64[16]"),
    Case("load-type", value("«%o = load %x[%i] : f32[8]»"), "this load gives f32[16]", "f32[16]",
         "one dimension for each distinct index tile"),
    Case("rank", value("«%o = load %x[%i, %i] : f32[16]»"), "%x has 1 dimensions but 2", "1 coord"),
    Case("coordinate", value("«%o = load %x[%f] : f32[16]»"), "%f is f32[16], not an integer",
         hint="`cast %f : i64`"),
    Case("coordinate", value("«%o = load %x[begin(%i)] : f32»"), "`begin(%i)` in a coordinate"),
    Case("coordinate", value("«%o = load %x[%i // %j] : f32[16]»"), "is not quasi-affine"),
    Case("coordinate", value("«%o = full end(%i) : i32»").replace("%i) :", "3) :"),
         "`end(3)` in an expression of dims", "dims, numbers"),
    Case("division", value("«%o = load %x[%i // (2 - 2)] : f32[16]»"), "divides by 0",
         "a positive number"),
    Case("division", value("«%o = load %x[%i % 0] : f32[16]»"), "divides by 0", "a positive"),
    Case("bound", value("«for %k = 0 to %j» { }"), "%j is i32[16], not one number", "a scalar"),
    Case("bound", value("«for %k = 0 to %i» { }"), "%i is an index tile, not one number",
         hint="use `begin(%i)` or `end(%i)`"),
    Case("bound", value("«for %k = 0 to end(%j)» { }").replace("%j)", "3)"), "`end(3)`",
         "of an index tile"),
    Case("undefined", "kernel @k() -> (%y: f32[4]) {\n«parallel %i = 0 to 4, %j = %i to 4» { } }",
         "%i is not defined here"),
    Case("not-a-size", value("«%o = full %j + 1 : i32»"), "%j in an expression of dims", "dims"),
    Case("dtype-mismatch", value("«%o = add %f, %j»"), "needs operands of one dtype", "f32[16]",
         "`cast %j : f32`"),
    Case("dtype-mismatch", value("«store %j, %y[%i]»"), "%j is i32[16], but %y holds f32",
         "f32[16]", "`cast %j : f32`"),
    Case("shape-mismatch", value("«%o = add %f, %g»"), "needs operands of one shape",
         hint="`expand`"),
    Case("shape-mismatch", value("«store %g, %y[%i]»"), "these coordinates address f32[16]"),
    Case("shape-mismatch", value("%h = full 1 : i32[4]\n«%o = load %x[%h + %j] : f32[16]»"),
         "integer tiles in one access stretch together", hint="`expand`"),
    Case("shape-mismatch", value("«%o = dot %g, %g»"), "`dot` sums over 1 elements of %g but 16",
         "[.., 1, N]", "permute"),
    Case("dtype", value("«%o = exp %j»"), "`exp` of i32[16]", "a floating dtype", "`cast`"),
    Case("dtype", value("«%o = floordiv %f, %f»"), "`floordiv` of f32[16]", "an integer dtype",
         "use `div` then `floor`"),
    Case("dtype", value("«%o = select %f, %f, %f»"), "the condition of `select` is f32[16]", "i1"),
    Case("dtype", value("«%o = reduce any %f dim 0»"), "`reduce any` of f32[16]", "i1"),
    Case("literal-operands", value("«%o = add 1, 2»"), "`add` of literals only", "one value",
         "`full VALUE : TYPE`"),
    Case("literal-operands", value("«%o = cast 1 : f32»"), "`cast` of a literal", hint="`full`"),
    Case("literal-operands", value("«%r = for %k = 0 to 3 carry (%c = 1.0)» { yield %c }"),
         "%c starts from a literal", "a value"),
    Case("literal-type", value("«%o = add %j, 1.5»"), "literal 1.5 in `add` of i32", "an integer"),
    Case("literal-type", value("«%o = and %b, 1»"), "literal 1 in `and` of i1", "true, false"),
    Case("literal-range", value("«%o = full 300 : i8»"), "literal 300 does not fit i8",
         "-128 to 127"),
    Case("dim", value("«%o = reduce sum %f dim 1»"), "`reduce` along dim 1 of f32[16]", "0 to 0"),
    Case("reshape", value("«%o = reshape %f : f32[5]»"), "`reshape` of f32[16]", "16 elements"),
    Case("permute", value("«%o = permute %g [0, 0]»"), "`permute` of f32[16, 1]", "0 to 1"),
    Case("broadcast", value("«%o = broadcast %f : f32[16, 8]»"), "`broadcast` of f32[16]",
         "sizes equal or 1", "`expand`"),
    Case("precision", value("%h = cast %g : f16\n%t = permute %h [1, 0]\n"
         "«%o = dot %h, %t precision tf32»"), "`precision tf32` of f16", "f32 operands"),
    Case("dot-acc", value("%t = permute %g [1, 0]\n«%o = dot %g, %t, %f»"),
         "the accumulator of `dot` is f32[16]", "f32[16, 16]"),
    Case("unknown-dim", value("«%o = full DD : i32»"), "there is no dim `DD`"),
    # Programs and tuned blocks.
    Case("unknown-kernel", program("«call @cpoy(%x[0]) -> (%y)»"), "there is no kernel @cpoy",
         "copy", "did you mean `copy`?"),
    Case("unknown-kernel", COPY + "«tuned @cpoy for kea.kea1» { a = 1 }",
         "there is no kernel @cpoy to tune", hint="did you mean `copy`?"),
    Case("arity", program("«call @copy(%x[0], %x[1]) -> (%y)»"), "has 1 inputs and 1 outputs"),
    Case("unknown-tensor", program("call @copy(«%xx[0]») -> (%y)"), "there is no tensor %xx here",
         "a `temp` declared before", "did you mean `x`?"),
    Case("rank", program("call @copy(«%x[0, 0, 0]») -> (%y)"), "%x has 2 dimensions"),
    Case("undefined", program("call @copy(«%x[%t]») -> (%y)"), "%t is not a step of a `repeat`"),
    Case("coordinate", program("call @copy(%x[«1 / 2»]) -> (%y)"), "`1 / 2` is not an integer"),
    Case("unknown-dim", program("call @copy(%x[«Q»]) -> (%y)"), "there is no dim `Q`", "T"),
    Case("out-of-range", program("call @copy(«%x[T]») -> (%y)"), "`T` is always outside the first "
         "3 parts of %x", "0 to 2"),
    Case("out-of-range", program("repeat %t = 0 to T { call @copy(«%x[%t - T]») -> (%y) }"),
         "`%t - T` is always outside"),
    Case("unwritten", program("temp %t : f32[4]\n call @copy(«%t») -> (%y)"),
         "%t is read before anything writes it"),
    Case("writes-input", program("call @copy(%x[0]) -> («%x[1]»)" + DONE), "%x is an input"),
    Case("reads-output", program("temp %t : f32[4]\n call @copy(%x[0]) -> (%t)\n"
         " call @copy(%t) -> («%t»)" + DONE), "reads and writes %t", hint="a `temp` first"),
    Case("call-shape", program("«call @copy(%x) -> (%y)»"), "%x gives f32 of shape [3, 4]"),
    Case("call-shape", COPY.replace("D = 4", "D = 4, E = 8 // (D - 3)") + "program @p(%x: f32[3]) "
         "-> (%y: f32[3]) { «call @copy(%x) -> (%y)» }", "division by zero"),
    Case("never-written", program("temp %t : f32[4]\n call @copy(%x[0]) -> (%t)").replace(
         "program @p", "«program @p»"), "no call writes the output %y"),
    Case("redefined", program("temp %t : f32[4]\n «temp %t : f32[4]»" + DONE), "%t is already"),
    Case("redefined", program("«repeat %x = 0 to T» { }" + DONE), "%x is already a tensor"),
    Case("redefined", program("repeat %t = 0 to T { «repeat %t = 0 to T» { } }" + DONE),
         "%t is already a step"),
    Case("size", program("«temp %t : f32[T - 3]»" + DONE), "`t` has a dimension of size 0"),
    Case("op-mismatch", "op @copy(a: f16[4]) -> (b: f32[4]) { b[i] = a[i] }\n"
         + COPY.replace("kernel @copy", "«kernel @copy»"), "the inputs of @copy are not those of",
         "a: f16[4]"),
]  # fmt: skip


def codes_in_source() -> set[str]:
    """Every code that a diagnostic is made with, read from the source."""
    found = {"syntax"}
    for path in CHECKED:
        for n in ast.walk(ast.parse(path.read_text())):
            if not isinstance(n, ast.Call):
                continue
            name = n.func.attr if isinstance(n.func, ast.Attribute) else getattr(n.func, "id", "")
            at = {"Invalid": 0, "RangeError": 0, "error": 0, "make": 0, "fail": 3}.get(name)
            given = [k.value for k in n.keywords if k.arg == "code"]
            given += n.args[at : at + 1] if at is not None else []
            found |= {
                str(g.value) for g in given if isinstance(g, ast.Constant) and " " not in g.value
            }
    return found


def test_every_code_has_a_case() -> None:
    # The size of a file is tested with the other malformed input.
    assert codes_in_source() - {"too-large"} == {c.code for c in CASES}


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{c.code}" for i, c in enumerate(CASES)])
def test_diagnostic(case: Case) -> None:
    start, end = case.text.find("«"), case.text.find("»") - 1
    source = case.text.replace("«", "").replace("»", "")
    found = diagnose(source)
    assert found, "it verifies"
    d = found[0]
    assert d.code == case.code
    assert case.message in d.message
    assert case.expected in ", ".join(d.expected)
    assert case.hint in d.hint
    json.dumps(d.to_dict())
    if case.message:
        assert "«" in case.text, "the case must say where"
        before = source[:start]
        line, column = before.count("\n") + 1, start - (before.rfind("\n") + 1) + 1
        assert (d.line, d.column) == (line, column)
        underlined = d.text[d.column - 1 : d.column - 1 + d.length]
        assert underlined == source[start:end].split("\n")[0]


def test_check_raises_all_of_them() -> None:
    text = value("%o = exp %ff\n    %q = exp %j\n    %r = add %o, %q")
    with pytest.raises(IRError) as e:
        check(parse(text))
    # The third statement uses what the first two failed to define: no echo.
    assert [d.code for d in e.value.diagnostics] == ["undefined", "dtype"]


@pytest.mark.parametrize("use", ["%o = load %x[%u] : f32[16]", "for %k = 0 to %u { }",
                                 "store 1.0, %y[%u]", "%o = reduce sum %u dim 0"])  # fmt: skip
def test_a_value_that_failed_gives_no_echo(use: str) -> None:
    found = diagnose(value("%u = load %nothing[%i] : i32[16]\n    " + use))
    assert [d.code for d in found] == ["unknown-tensor"]


def test_the_number_of_diagnostics_is_bounded() -> None:
    found = diagnose(value("\n".join(f"%o{i} = exp %zz{i}" for i in range(3 * MAX_ERRORS))))
    assert len(found) == MAX_ERRORS


def test_built_programs_have_diagnostics_without_a_place() -> None:
    m = parse(COPY)
    from dataclasses import replace

    broken = replace(m, items=(replace(m.items[0], outputs=()),), source="")  # type: ignore[arg-type]
    (d, *_) = verify(broken)
    assert (d.code, d.line, d.column, d.text) == ("no-output", 0, 0, "")
    assert d.render().splitlines()[0] == "error[no-output]: @copy has no output"


GOLDEN = [
    (
        kernel("%v = laod %x[%i] : f32[16]"),
        "error[syntax]: unexpected `laod`\n"
        " --> k.ir:3:10\n"
        "3 |     %v = laod %x[%i] : f32[16]\n"
        "  |          ^^^^\n"
        "  = expected: a statement\n"
        "  = help: did you mean `load`?",
    ),
    (
        value("%o = add %f, %j"),
        "error[dtype-mismatch]: `add` needs operands of one dtype; %f is f32[16] and %j is "
        "i32[16]\n"
        " --> k.ir:7:5\n"
        "7 |     %o = add %f, %j\n"
        "  |     ^^^^^^^^^^^^^^^\n"
        "  = expected: f32[16]\n"
        "  = help: convert one with `cast %j : f32`",
    ),
    (
        op("y[i] = x[i + 1]"),
        "error[out-of-range]: index 0 of `x`, `i + 1`, can be outside 0 to 63\n"
        " --> k.ir:4:12\n"
        "4 |   y[i] = x[i + 1]\n"
        "  |            ^^^^^\n"
        "  = expected: 0 to 63\n"
        "  = help: say what lies outside: `else 0`",
    ),
    (
        "op\t@f(x: f32[4\x1b[31m]) -> (y: f32[4]) { }",
        "error[syntax]: unexpected character '\\x1b'\n"
        " --> k.ir:1:15\n"
        "1 | op @f(x: f32[4\N{REPLACEMENT CHARACTER}[31m]) -> (y: f32[4]) { }\n"
        "  |               ^\n"
        "  = expected: `,`, `else`, `]`",
    ),
]


@pytest.mark.parametrize(("text", "rendered"), GOLDEN)
def test_golden_rendering(text: str, rendered: str) -> None:
    assert diagnose(text)[0].render() == rendered


def test_a_long_line_is_cut_around_the_caret() -> None:
    text = op("y[i] = " + "x[i] + " * 90 + "x[i + 1]" + " + x[i]" * 90)
    lines = diagnose(text)[0].render().splitlines()
    shown, carets = lines[2], lines[3]
    assert len(shown) < 120
    at = carets.index("^")
    assert shown[at : at + carets.count("^")] == "i + 1"


def test_lines_end_in_carriage_returns_too() -> None:
    d = diagnose(value("%o = add %f, %j").replace("\n", "\r\n"))[0]
    assert (d.line, d.column, d.text) == (7, 5, "    %o = add %f, %j")
