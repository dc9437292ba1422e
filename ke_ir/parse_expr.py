"""Expressions and types."""

from __future__ import annotations

import math

from ke_ir.diagnostics import Loc, near
from ke_ir.expr import (
    COMPARISONS,
    FUNCTIONS,
    INDEX_FUNCTIONS,
    LEVEL,
    REDUCTIONS,
    Bin,
    Call,
    Dim,
    Expr,
    Neg,
    Num,
    Range,
    Reduce,
    Ref,
    Var,
    variables,
)
from ke_ir.lexer import Cursor, number_value
from ke_ir.types import DTYPES, DType, TensorType, TileType

MAX_DEPTH = 60
MAX_OPERATORS = 200
MAX_TILE = 1 << 24
RESERVED = frozenset(REDUCTIONS) | {
    "inf", "nan", "true", "false", "and", "or", "not", "else", "in", "to", "dims",
}  # fmt: skip


class ExprParser(Cursor):
    """Adds expressions and types to the cursor.

    ``in_op`` says which of the two readings a bare name has: in an op an index or a dim, in a
    kernel always a dim.
    """

    in_op = False
    dims_known: frozenset[str] = frozenset()
    depth = 0
    operators = 0

    def expression(self) -> Expr:
        """An expression; resets the count of operators that bounds its size."""
        self.operators = 0
        return self.binary(0)

    def nested(self) -> Expr:
        """An expression inside brackets, with the nesting bounded."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(
                f"expressions nested more than {MAX_DEPTH} deep",
                hint="give a part its own equation",
                code="too-deep",
            )
        e = self.binary(0)
        self.depth -= 1
        return e

    def binary(self, level: int) -> Expr:
        """Precedence climbing: operators of ``level`` and tighter."""
        first = self.at
        lhs = self.unary()
        while (mine := LEVEL.get(self.token, -1)) >= level:
            op = self.advance()
            self.operators += 1
            if self.operators > MAX_OPERATORS:
                self.fail(
                    f"an expression of more than {MAX_OPERATORS} operators",
                    hint="give a part its own equation",
                    code="too-deep",
                )
            rhs = self.binary(mine + 1)
            lhs = Bin(op, lhs, rhs, loc=self.since(first))
            if op in COMPARISONS and self.token in COMPARISONS:
                self.fail("comparisons do not chain", ["`and`", "the end of the expression"])
        return lhs

    def unary(self) -> Expr:
        first = self.at
        if self.token == "-":
            self.advance()
            if self.is_number() or self.token == "inf":
                return Num(-self._magnitude(), loc=self.since(first))
            self.depth += 1
            if self.depth > MAX_DEPTH:
                self.fail(f"expressions nested more than {MAX_DEPTH} deep", code="too-deep")
            arg = self.unary()
            self.depth -= 1
            return Neg(arg, loc=self.since(first))
        return self.atom()

    def _magnitude(self) -> int | float:
        if self.accept("nan"):
            return math.nan
        if self.accept("inf"):
            return math.inf
        return number_value(self.literal_text())

    def atom(self) -> Expr:
        first, token = self.at, self.token
        c = token[:1]
        if c == "%" and len(token) > 1 and not self.in_op:
            self.advance()
            return Var(token[1:], loc=self.since(first))
        if self.is_number() or token in ("inf", "nan"):
            return Num(self._magnitude(), loc=self.since(first))
        if self.is_name():
            return self.named(first)
        if token == "(":
            self.advance()
            e = self.nested()
            self.expect(")")
            return e
        if c == "%" and self.in_op:
            self.fail(f"unexpected {self.found()}", ["an expression"], "names in an `op` have no %")
        self.unexpected("an expression")

    def named(self, first: int) -> Expr:
        """A dim, an index, a function call, a reduction or an element of a tensor."""
        name = self.advance()
        if self.token == "(":
            return self.call(name, first)
        if self.token == "[" and self.in_op:
            if name in REDUCTIONS:
                return self.reduction(name, first)
            return self.element(name, first)
        if name in ("true", "false") and not self.in_op:
            return Num(name == "true", loc=self.since(first))
        if self.in_op and name not in self.dims_known:
            return Var(name, loc=self.since(first))
        return Dim(name, loc=self.since(first))

    def call(self, name: str, first: int) -> Expr:
        table = FUNCTIONS if self.in_op else INDEX_FUNCTIONS
        arity = table.get(name)
        if arity is None:
            self.at -= 1
            self.token = self.texts[self.at]
            if name in REDUCTIONS:
                self.fail(f"`{name}` needs its indices", [f"`{name}[i](...)`"])
            what = "function" if self.in_op else "function of indices"
            self.fail(f"no {what} `{name}`", sorted(table), near(name, table), "unknown-function")
        args = self.arguments()
        loc = self.since(first)
        if len(args) != arity:
            plural = "" if arity == 1 else "s"
            self.fail(
                f"`{name}` takes {arity} argument{plural}, found {len(args)}", loc=loc, code="arity"
            )
        return Call(name, args, loc=loc)

    def arguments(self) -> tuple[Expr, ...]:
        self.expect("(")
        args = [self.nested()]
        while self.accept(","):
            args.append(self.nested())
        self.expect(")")
        return tuple(args)

    def reduction(self, kind: str, first: int) -> Expr:
        self.expect("[")
        ranges = [self.range()]
        while self.accept(","):
            ranges.append(self.range())
        self.expect("]")
        self.expect("(")
        body = self.nested()
        self.expect(")")
        return Reduce(kind, tuple(ranges), body, loc=self.since(first))

    def range(self) -> Range:
        first = self.at
        name = self.name("an index")
        self.check_reserved(name, first)
        if not self.accept("in"):
            return Range(name, loc=self.since(first))
        lo = self.nested()
        self.expect("to")
        hi = self.nested()
        return Range(name, lo, hi, loc=self.since(first))

    def element(self, name: str, first: int) -> Expr:
        indices, fill = self.subscripts()
        return Ref(name, indices, fill, loc=self.since(first))

    def check_reserved(self, name: str, at: int) -> None:
        if name in RESERVED:
            start = self.starts[at]
            self.fail(f"`{name}` is a word of the language", ["another name"],
                      loc=Loc(start, start + len(name)))  # fmt: skip

    def coordinates(self) -> tuple[tuple[Expr, ...], Expr | None]:
        """Subscripts that are not part of an expression, with their own count of operators."""
        self.operators = 0
        return self.subscripts()

    def subscripts(self) -> tuple[tuple[Expr, ...], Expr | None]:
        """``[i, j else VALUE]``, possibly empty."""
        self.expect("[")
        indices: list[Expr] = []
        fill: Expr | None = None
        if self.token not in ("]", "else"):
            indices.append(self.nested())
            while self.accept(","):
                indices.append(self.nested())
        if self.accept("else"):
            fill = self.nested()
        if self.token != "]":
            self.unexpected("`,`", "`else`", "`]`", known=("else",))
        self.advance()
        return tuple(indices), fill

    def dtype(self) -> DType:
        got = DTYPES.get(self.token)
        if got is None:
            self.unexpected("an element type: " + " ".join(DTYPES), known=DTYPES)
        self.advance()
        return got

    def tile_type(self) -> TileType:
        d = self.dtype()
        if self.token != "[":
            return TileType(d)
        self.advance()
        shape = [self.tile_size()]
        while self.accept(","):
            shape.append(self.tile_size())
        self.expect("]")
        return TileType(d, tuple(shape))

    def tile_size(self) -> int:
        loc = self.loc()
        if self.is_name():
            self.fail(
                f"unexpected {self.found()}", ["an integer"], "sizes of tiles are fixed numbers"
            )
        n = self.integer("the size of a tile")
        if not 1 <= n <= MAX_TILE:
            self.fail(f"a tile of size {n}", [f"1 to {MAX_TILE}"], code="tile-size", loc=loc)
        return n

    def tensor_type(self) -> TensorType:
        d = self.dtype()
        if self.token != "[":
            self.unexpected("`[` and the sizes of the tensor", "`[]` for a scalar tensor")
        loc = self.loc()
        was, self.in_op = self.in_op, False
        shape, fill = self.coordinates()
        self.in_op = was
        if fill is not None:
            self.fail("a type has no `else`")
        if found := [n for size in shape for n in variables(size)]:
            self.fail(f"the size of a tensor has the variable `%{found[0]}`", ["dims"], loc=loc)
        return TensorType(d, shape)
