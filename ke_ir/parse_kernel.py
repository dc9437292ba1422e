"""Kernel bodies: statements are read by the formats that the op classes declare."""

from __future__ import annotations

from typing import Any

from ke_ir.expr import Num
from ke_ir.ir import For, LoopVar, Parallel, Yield
from ke_ir.ops.base import REGISTRY, Op, Operand, Piece, Stmt
from ke_ir.parse_expr import ExprParser

MAX_BLOCKS = 40
STATEMENTS = ("parallel", "for", "yield")


class KernelParser(ExprParser):
    """Adds statements to expressions.

    An op may stand where an operand is wanted; it becomes a statement of its own with a fresh
    name, so that the canonical form names every value.
    """

    blocks = 0

    def __init__(self, source: str, file: str = "") -> None:
        super().__init__(source, file)
        self.fresh = 0
        # Of the whole file: a few more than a kernel's own, but read only once.
        self.used = {t[1:] for t in self.texts if t[0:1] == "%"}
        self.out: list[Stmt] = []

    def kernel_body(self) -> tuple[Stmt, ...]:
        """``{ statements }`` of a kernel, with its own numbering of fresh names."""
        self.in_op = False
        self.fresh = 0
        return self.block()

    def fresh_name(self) -> str:
        while str(self.fresh) in self.used:
            self.fresh += 1
        self.fresh += 1
        return str(self.fresh - 1)

    def block(self) -> tuple[Stmt, ...]:
        self.blocks += 1
        if self.blocks > MAX_BLOCKS:
            self.fail(f"blocks nested more than {MAX_BLOCKS} deep", code="too-deep")
        opened = self.loc()
        self.expect("{")
        outer, self.out = self.out, []
        while self.token != "}":
            if not self.token:
                self.fail("this `{` is never closed", ["`}`"], loc=opened)
            self.statement()
        self.advance()
        body, self.out = tuple(self.out), outer
        self.blocks -= 1
        return body

    def statement(self) -> None:
        first = self.at
        token = self.token
        if token[0] == "%" and len(token) > 1:
            names = [self.advance()[1:]]
            while self.accept(","):
                names.append(self.prefixed("%", "a value"))
            self.expect("=")
            if self.token == "for":
                self.loop(first, tuple(names))
                return
            if len(names) > 1:
                self.fail("only a `for` gives several values", ["`for`"])
            self.operation(first, names[0])
        elif token == "for":
            self.loop(first, ())
        elif token == "parallel":
            self.parallel(first)
        elif token == "yield":
            self.advance()
            values = [self.operand()]
            while self.accept(","):
                values.append(self.operand())
            self.out.append(Yield(tuple(values), loc=self.since(first)))
        else:
            self.operation(first, None)

    def operation(self, first: int, result: str | None) -> None:
        """An op with or without ``%result =`` before it."""
        cls = self.op_class()
        if cls.has_result and result is None:
            self.fail(
                f"`{self.token}` gives a value", ["`%name = " + self.token + " ...`"],
                "name its result, or remove the statement", "unused-result",
            )  # fmt: skip
        if not cls.has_result and result is not None:
            self.fail(f"`{self.token}` gives no value", ["an op that gives one"])
        self.out.append(self.build(cls, first, result))

    def op_class(self) -> type[Op]:
        cls = REGISTRY.get(self.token)
        if cls is None:
            known = (*REGISTRY, *STATEMENTS)
            self.unexpected("a statement", known=known)
        return cls

    def build(self, cls: type[Op], first: int, result: str | None) -> Op:
        """Read what follows the mnemonic by the class's format."""
        mnemonic = self.advance()
        values: dict[str, Any] = {"fn": mnemonic} if len(cls.mnemonics) > 1 else {}
        for piece in cls.pieces:
            self.piece(piece, values)
        if "fill" in values and not hasattr(cls, "fill"):
            self.at -= 1
            self.fail(f"`{mnemonic}` takes no `else`", ["`]`"], "what lies outside is not written")
        if result is not None:
            values["result"] = result
        return cls(loc=self.since(first), **values)

    def piece(self, p: Piece, values: dict[str, Any]) -> None:
        if p.literal:
            self.expect(p.literal)
        elif p.group:
            head = p.group[0]
            if self.token == (head.literal or head.field):
                for q in p.group:
                    self.piece(q, values)
        elif p.kind == "coords":
            values[p.field], fill = self.coordinates()
            if fill is not None:
                if not isinstance(fill, Num):
                    self.fail("`else` in a kernel takes a number", ["a number"], loc=fill.loc)
                values["fill"] = fill.value
        else:
            values[p.field] = self.field(p)

    def field(self, p: Piece) -> Any:
        match p.kind:
            case "operand":
                return self.operand()
            case "tensor":
                return self.prefixed("%", "a tensor")
            case "index":
                return self.prefixed("%", "a loop variable")
            case "word":
                choices = p.choices or frozenset()
                if self.token not in choices:
                    self.unexpected(*sorted(choices), known=choices)
                return self.advance()
            case "flag":
                self.expect(p.field)
                return True
            case "int":
                return self.integer()
            case "ints":
                return self.integers()
            case "value":
                if self.token in ("true", "false"):
                    return self.advance() == "true"
                e = self.expression()
                return e.value if isinstance(e, Num) else e
            case "dtype":
                return self.dtype()
            case "tiletype":
                return self.tile_type()
        raise TypeError(f"no such field kind: {p.kind}")

    def integers(self) -> tuple[int, ...]:
        self.expect("[")
        out = []
        if self.token != "]":
            out.append(self.integer())
            while self.accept(","):
                out.append(self.integer())
        self.expect("]")
        return tuple(out)

    def operand(self) -> Operand:
        """A value, a literal, or an op in place."""
        token = self.token
        if token[0:1] == "%" and len(token) > 1:
            return self.advance()[1:]
        if token == "-" or self.is_number() or token in ("inf", "nan", "true", "false"):
            return self.number()
        if token in REGISTRY:
            self.depth += 1
            if self.depth > 60:
                self.fail("ops nested more than 60 deep", code="too-deep")
            first, cls = self.at, self.op_class()
            if not cls.has_result:
                self.fail(f"`{token}` gives no value", ["an op that gives one"])
            op = self.build(cls, first, "")
            self.depth -= 1
            name = self.fresh_name()
            self.out.append(cls(**{**_fields(op), "result": name}))
            return name
        self.unexpected("a value, such as `%x`", "a number", "an op", known=REGISTRY)

    def loop_var(self) -> LoopVar:
        first = self.at
        name = self.prefixed("%", "a loop variable")
        self.expect("=")
        lo = self.expression()
        self.expect("to")
        hi = self.expression()
        tile = self.tile_size() if self.accept("tile") else None
        return LoopVar(name, lo, hi, tile, loc=self.since(first))

    def parallel(self, first: int) -> None:
        self.advance()
        vars_ = [self.loop_var()]
        while self.accept(","):
            vars_.append(self.loop_var())
        group = 0
        if self.accept("order"):
            self.expect("grouped")
            self.expect("(")
            group = self.positive("the size of a group")
            self.expect(")")
        persistent = self.accept("persistent")
        loc = self.since(first)
        if self.token != "{":
            self.unexpected("`tile`", "`order`", "`persistent`", "`{`",
                            known=("tile", "order", "persistent", "grouped"))  # fmt: skip
        body = self.block()
        self.out.append(Parallel(tuple(vars_), body, group, persistent, loc=loc))

    def positive(self, what: str) -> int:
        loc = self.loc()
        n = self.integer(what)
        if not 1 <= n <= 1 << 20:
            self.fail(f"{what} is {n}", ["1 or more"], loc=loc)
        return n

    def loop(self, first: int, results: tuple[str, ...]) -> None:
        self.expect("for")
        var = self.loop_var()
        stages = self.positive("the number of stages") if self.accept("stages") else 1
        carries: list[tuple[str, Operand]] = []
        if self.accept("carry"):
            self.expect("(")
            carries.append(self.carry())
            while self.accept(","):
                carries.append(self.carry())
            self.expect(")")
        loc = self.since(first)
        if self.token != "{":
            self.unexpected(
                "`tile`", "`stages`", "`carry`", "`{`", known=("tile", "stages", "carry")
            )
        body = self.block()
        self.out.append(For(var, body, tuple(carries), results, stages, loc=loc))

    def carry(self) -> tuple[str, Operand]:
        name = self.prefixed("%", "a carried value")
        self.expect("=")
        return name, self.operand()


def _fields(op: Op) -> dict[str, Any]:
    from dataclasses import fields

    return {f.name: getattr(op, f.name) for f in fields(op)}
