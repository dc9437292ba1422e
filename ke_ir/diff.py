"""Structural difference of two modules: which statements were added, removed or changed.

Statements are paired, not text lines: a value that was only renamed is no difference, a statement
that follows an inserted one is not "moved", and a changed loop header does not make its body new.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ke_ir.ir import (
    For,
    Item,
    Kernel,
    Module,
    Once,
    OpDef,
    Parallel,
    Program,
    ProgramStmt,
    Repeat,
    Signature,
    Temp,
    Tuned,
)
from ke_ir.ops.base import Op, Stmt
from ke_ir.printer import (
    INDENT,
    print_equation,
    print_head,
    print_header,
    print_op,
    print_program_head,
    print_tuned,
    print_yield,
)

SAME, ADDED, REMOVED, CHANGED = "same", "added", "removed", "changed"
Node = Stmt | ProgramStmt


@dataclass(frozen=True)
class Change:
    """One statement (or header) of either side, and how it fared.

    ``before``/``after`` are its lines, without what is inside it; ``inside`` its body's changes.
    ``kind`` speaks of the line alone: a loop may be the same while its body changed.
    """

    kind: str
    before: str = ""
    after: str = ""
    inside: tuple[Change, ...] = ()
    block: bool = False

    @property
    def touched(self) -> bool:
        """True if anything here or inside differs."""
        return self.kind != SAME or any(c.touched for c in self.inside)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types; untouched statements are left out."""
        out: dict[str, object] = {"kind": self.kind}
        if self.kind in (REMOVED, CHANGED, SAME):
            out["before"] = self.before
        if self.kind in (ADDED, CHANGED):
            out["after"] = self.after
        if inside := [c.to_dict() for c in self.inside if c.touched]:
            out["inside"] = inside
        return out


def diff_modules(a: Module, b: Module) -> tuple[Change, ...]:
    """Changes item by item, in the order of ``b`` with removed items where they stood."""
    keys_a, keys_b = [_key(i) for i in a.items], [_key(i) for i in b.items]
    out: list[Change] = []
    for kind, x, y in _align(a.items, b.items, keys_a, keys_b):
        if kind == SAME:
            assert x is not None and y is not None
            out.append(_diff_item(x, y, a.items, b.items))
        elif y is None:
            out.append(_whole_item(x, kind, a.items))  # type: ignore[arg-type]
        else:
            out.append(_whole_item(y, kind, b.items))  # type: ignore[arg-type]
    return tuple(out)


def count(changes: Sequence[Change]) -> dict[str, int]:
    """How many statements were added, removed and changed."""
    total = {ADDED: 0, REMOVED: 0, CHANGED: 0}
    for c in changes:
        if c.kind in total:
            total[c.kind] += 1
        for k, n in count(c.inside).items():
            total[k] += n
    return total


def _key(i: Item) -> str:
    if isinstance(i, Tuned):
        return f"tuned {i.kernel} {i.target} {i.arch}"
    # A kernel that became a program of the same name is a new form of the same thing.
    return f"{'op' if isinstance(i, OpDef) else 'kernel'} {i.name}"


def _align(
    a: Sequence[object], b: Sequence[object], ka: Sequence[str], kb: Sequence[str]
) -> Iterator[tuple[str, object | None, object | None]]:
    """Pairs with equal keys in order (SAME), and the rest as removed and added."""
    matcher = difflib.SequenceMatcher(None, ka, kb, autojunk=False)
    for tag, i0, i1, j0, j1 in matcher.get_opcodes():
        if tag == "equal":
            for i, j in zip(range(i0, i1), range(j0, j1), strict=True):
                yield SAME, a[i], b[j]
        else:
            for i in range(i0, i1):
                yield REMOVED, a[i], None
            for j in range(j0, j1):
                yield ADDED, None, b[j]


def _diff_item(x: object, y: object, a: tuple[Item, ...], b: tuple[Item, ...]) -> Change:
    if isinstance(x, Tuned) and isinstance(y, Tuned):
        before, after = print_tuned(x), print_tuned(y)
        return Change(_kind(before, after), before, after)
    assert isinstance(x, Signature) and isinstance(y, Signature)
    before, after = print_header(x, a), print_header(y, b)
    inside: tuple[Change, ...]
    if isinstance(x, OpDef) and isinstance(y, OpDef):
        inside = _diff_lines([print_equation(e) for e in x.equations],
                             [print_equation(e) for e in y.equations])  # fmt: skip
    elif type(x) is type(y) and isinstance(x, Kernel | Program):
        assert isinstance(y, Kernel | Program)
        inside = _Bodies(x.body, y.body).diff(x.body, y.body)
    else:
        inside = tuple(_whole(s, REMOVED) for s in x.body) + tuple(  # type: ignore[attr-defined]
            _whole(s, ADDED)
            for s in y.body  # type: ignore[attr-defined]
        )
    return Change(_kind(before, after), before, after, inside, block=True)


def _kind(before: str, after: str) -> str:
    return SAME if before == after else CHANGED


def _whole_item(i: Item, kind: str, among: tuple[Item, ...]) -> Change:
    if isinstance(i, Tuned):
        return _one(print_tuned(i), kind)
    head = print_header(i, among)
    if isinstance(i, OpDef):
        inside = tuple(_one(print_equation(e), kind) for e in i.equations)
    else:
        inside = tuple(_whole(s, kind) for s in i.body)
    return Change(kind, head, head, inside, block=True)


def _one(text: str, kind: str) -> Change:
    return Change(kind, text, text)


def _whole(s: Node, kind: str) -> Change:
    """A statement with everything inside it, added or removed."""
    return Change(kind, _line(s), _line(s), tuple(_whole(c, kind) for c in _body(s)), _is_block(s))


def _diff_lines(a: Sequence[str], b: Sequence[str]) -> tuple[Change, ...]:
    """Equations are paired by what they define."""
    ka, kb = [t.split("[")[0] for t in a], [t.split("[")[0] for t in b]
    out = []
    for kind, x, y in _align(a, b, ka, kb):
        before, after = str(x or y), str(y or x)
        out.append(Change(_kind(before, after) if kind == SAME else kind, before, after))
    return tuple(out)


def _is_block(s: Node) -> bool:
    return isinstance(s, Parallel | For | Repeat | Once)


def _body(s: Node) -> tuple[Node, ...]:
    return s.body if isinstance(s, Parallel | For | Repeat | Once) else ()


def _line(s: Node) -> str:
    if isinstance(s, Op):
        return print_op(s)
    if isinstance(s, For | Parallel):
        return print_head(s)
    if isinstance(s, Stmt):
        return print_yield(s)
    return print_program_head(s)


class _Bodies:
    """Pairs statements, and learns from each pair which names correspond."""

    def __init__(self, a: Sequence[Node], b: Sequence[Node]) -> None:
        self.names: dict[str, str] = {}
        self.keys = _Keys()
        for body in (a, b):
            self.keys.block(body, {}, 0)

    def diff(self, a: Sequence[Node], b: Sequence[Node]) -> tuple[Change, ...]:
        out = []
        for x, y in self.pairs(a, b):
            if x is not None and y is not None:
                out.append(self.pair(x, y))
            else:
                out.append(_whole(x, REMOVED) if x is not None else _whole(y, ADDED))  # type: ignore[arg-type]
        return tuple(out)

    def pairs(
        self, a: Sequence[Node], b: Sequence[Node]
    ) -> Iterator[tuple[Node | None, Node | None]]:
        """The pairing in order that costs least, with None for what is removed or added."""
        first = 0
        while first < min(len(a), len(b)) and self.cost(a[first], b[first]) == 0:
            first += 1
        last = 0
        while last < min(len(a), len(b)) - first and self.cost(a[-1 - last], b[-1 - last]) == 0:
            last += 1
        yield from zip(a[:first], b[:first], strict=True)
        yield from self.middle(a[first : len(a) - last], b[first : len(b) - last])
        yield from zip(a[len(a) - last :], b[len(b) - last :], strict=True)

    def middle(
        self, a: Sequence[Node], b: Sequence[Node]
    ) -> Iterator[tuple[Node | None, Node | None]]:
        if len(a) * len(b) <= MAX_TABLE:
            yield from _cheapest(a, b, self.cost)
            return
        keys_a, keys_b = [str(self.keys[s]) for s in a], [str(self.keys[s]) for s in b]
        for _, x, y in _align(a, b, keys_a, keys_b):
            yield x, y  # type: ignore[misc]

    def cost(self, x: Node, y: Node) -> float:
        """How unlike two statements are: 0 for the same, less than 1 if one may have become the
        other. Adding or removing one costs 0.5."""
        if type(x) is not type(y):
            return math.inf
        line, other = _line(x), _line(y)
        if self.keys[x] == self.keys[y]:
            # Of several that compute the same, the one with the same name is meant.
            return 0.0 if line == other else 1e-6
        if _is_block(x):
            return 0.2 + 0.5 * (1 - _overlap(_words(x), _words(y)))
        if line == other:
            return 0.0
        if _NAME.sub("%", line) == _NAME.sub("%", other):
            return 0.2
        return 0.5 if _word(x) == _word(y) else 0.7

    def pair(self, x: Node, y: Node) -> Change:
        before, after = _line(x), _line(y)
        for p, q in zip(_defines(x), _defines(y), strict=False):
            self.names[p] = q
        mapped = _NAME.sub(lambda m: "%" + self.names.get(m[1], m[1]), before)
        inside = self.diff(_body(x), _body(y))
        return Change(_kind(mapped, after), before, after, inside, _is_block(x))


_NAME = re.compile(r"%(\w+)")


class _Keys:
    """Keys of statements that do not depend on names: equal for equal computations."""

    def __init__(self) -> None:
        self.table: dict[tuple[object, ...], int] = {}
        self.found: dict[int, int] = {}

    def __getitem__(self, s: Node) -> int:
        return self.found[id(s)]

    def block(self, body: Sequence[Node], known: dict[str, str], depth: int) -> tuple[int, ...]:
        """Keys of the statements; ``known`` says for each name what it stands for."""
        known = dict(known)
        return tuple(self.statement(s, known, depth) for s in body)

    def statement(self, s: Node, known: dict[str, str], depth: int) -> int:
        own = _defines(s)
        text = _NAME.sub(lambda m: "%" if m[1] in own else "%" + known.get(m[1], m[1]), _line(s))
        inner = {**known, **{n: f"#{depth}.{i}" for i, n in enumerate(own)}}
        inside = self.block(_body(s), inner, depth + 1)
        key = self.table.setdefault((text, *inside), len(self.table))
        known.update({n: f"#{key}#{i}" for i, n in enumerate(own)})
        self.found[id(s)] = key
        return key


MAX_TABLE = 250_000
"""Bodies with more pairs of statements than this are paired by equal keys only."""


def _cheapest(
    a: Sequence[Node], b: Sequence[Node], cost: Callable[[Node, Node], float]
) -> Iterator[tuple[Node | None, Node | None]]:
    """Edit distance: ``best[i][j]`` is the least cost of pairing what follows ``i`` and ``j``."""
    best = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]
    pair = [[cost(x, y) for y in b] for x in a]
    for i in range(len(a), -1, -1):
        for j in range(len(b), -1, -1):
            options = [0.5 + best[i + 1][j]] if i < len(a) else []
            options += [0.5 + best[i][j + 1]] if j < len(b) else []
            if i < len(a) and j < len(b):
                options.append(pair[i][j] + best[i + 1][j + 1])
            best[i][j] = min(options, default=0.0)
    i = j = 0
    while i < len(a) or j < len(b):
        if i < len(a) and j < len(b) and best[i][j] == pair[i][j] + best[i + 1][j + 1]:
            yield a[i], b[j]
            i, j = i + 1, j + 1
        elif i < len(a) and best[i][j] == 0.5 + best[i + 1][j]:
            yield a[i], None
            i += 1
        else:
            yield None, b[j]
            j += 1


def _defines(s: Node) -> tuple[str, ...]:
    if isinstance(s, Op):
        return (s.result,) if s.result is not None else ()
    if isinstance(s, For):
        return (s.var.name, *(n for n, _ in s.carries), *s.results)
    if isinstance(s, Parallel):
        return tuple(v.name for v in s.vars)
    if isinstance(s, Temp):
        return (s.name,)
    return (s.var,) if isinstance(s, Repeat) else ()


def _word(s: Node) -> str:
    """What a statement is, whatever its attributes."""
    if isinstance(s, Op):
        tensor = getattr(s, "tensor", "")
        return f"{s.mnemonic} {tensor}"
    return type(s).__name__


def _words(s: Node) -> Counter[str]:
    """What a block contains."""
    total = Counter([_NAME.sub("%", _line(s))])
    for c in _body(s):
        total[_word(c)] += 1
        if _is_block(c):
            total += _words(c)
    return total


def _overlap(a: Counter[str], b: Counter[str]) -> float:
    return 2 * (a & b).total() / max(1, a.total() + b.total())


Style = Callable[[str, str], str]


def render(changes: Sequence[Change], style: Style | None = None, context: int = 2) -> str:
    """The terminal form: ``+`` added, ``-`` removed, others for orientation.

    ``style(kind, line)`` may colour a line. Runs of untouched statements are shortened to
    ``context`` on each side of a change. Returns an empty string if nothing differs.
    """
    if not any(c.touched for c in changes):
        return ""
    lines: list[tuple[str, str]] = []
    _render(changes, 0, context, lines)
    return "\n".join(style(k, t) if style else t for k, t in lines)


def _render(
    changes: Sequence[Change], depth: int, context: int, out: list[tuple[str, str]]
) -> None:
    near = [
        any(d.touched for d in changes[max(0, i - context) : i + context + 1])
        for i in range(len(changes))
    ]
    skipped = 0
    for c, show in zip(changes, near, strict=True):
        if not show:
            skipped += 1
            continue
        _skipped(skipped, depth, out)
        skipped = 0
        _render_one(c, depth, context, out)
    _skipped(skipped, depth, out)


def _skipped(n: int, depth: int, out: list[tuple[str, str]]) -> None:
    if n:
        out.append((SAME, f"  {INDENT * depth}... {n} unchanged"))


def _render_one(c: Change, depth: int, context: int, out: list[tuple[str, str]]) -> None:
    def put(mark: str, kind: str, text: str) -> None:
        for line in text.splitlines() or [""]:
            out.append((kind, f"{mark} {INDENT * depth}{line}"))

    opening = " {" if c.block else ""
    if c.kind in (REMOVED, CHANGED):
        put("-", REMOVED, c.before + opening)
    if c.kind in (ADDED, CHANGED):
        put("+", ADDED, c.after + opening)
    if c.kind == SAME:
        put(" ", SAME, c.after + opening)
    if not c.block:
        return
    if c.touched:
        _render(c.inside, depth + 1, context, out)
    else:
        _skipped(len(c.inside), depth + 1, out)
    mark = {ADDED: "+", REMOVED: "-"}.get(c.kind, " ")
    put(mark, c.kind if mark != " " else SAME, "}")
