"""Reading a KE-IR file: ``parse(text)`` gives a Module or raises IRError with diagnostics."""

from __future__ import annotations

from dataclasses import replace

from ke_ir.diagnostics import Loc, near
from ke_ir.expr import Num
from ke_ir.ir import (
    DimDecl,
    Equation,
    Item,
    Kernel,
    KernelCall,
    Module,
    Once,
    OpDef,
    Param,
    Program,
    ProgramStmt,
    Repeat,
    Temp,
    Tuned,
    View,
)
from ke_ir.parse_kernel import KernelParser

ITEMS = ("op", "kernel", "program", "tuned")


def parse(text: str, file: str = "") -> Module:
    """Parse a whole file. ``file`` is the name that diagnostics show.

    Only the form is checked here; ``ke_ir.verify`` checks names, types and shapes.
    """
    return _ModuleParser(text, file).module()


class _ModuleParser(KernelParser):
    def module(self) -> Module:
        items: list[Item] = []
        while self.token:
            items.append(self.item())
        if not items:
            self.fail(
                "the file has no op and no kernel", ["`op @name(...)`", "`kernel @name(...)`"]
            )
        return Module(inherit_dims(tuple(items)), source=self.source, file=self.reporter.file)

    def item(self) -> Item:
        match self.token:
            case "op":
                return self.op_def()
            case "kernel":
                return self.kernel()
            case "program":
                return self.program()
            case "tuned":
                return self.tuned_block()
        self.unexpected(*(f"`{w}`" for w in ITEMS), known=ITEMS)

    def header(
        self, sigil: str
    ) -> tuple[str, tuple[Param, ...], tuple[Param, ...], tuple[DimDecl, ...], Loc]:
        """``KEYWORD @name(inputs) -> (outputs) dims ...``."""
        first = self.at
        self.advance()
        name = self.prefixed("@", "a name")
        loc = self.since(first)
        inputs = self.params(sigil)
        self.expect("->")
        outputs = self.params(sigil)
        return name, inputs, outputs, self.dims() if self.accept("dims") else (), loc

    def params(self, sigil: str) -> tuple[Param, ...]:
        self.expect("(")
        out: list[Param] = []
        while self.token != ")":
            if out:
                self.expect(",")
            first = self.at
            name = self.prefixed(sigil, "a tensor") if sigil else self.name("the name of a tensor")
            self.check_reserved(name, first)
            self.expect(":")
            out.append(Param(name, self.tensor_type(), loc=self.since(first)))
        self.advance()
        return tuple(out)

    def dims(self) -> tuple[DimDecl, ...]:
        out = [self.dim()]
        while self.accept(","):
            out.append(self.dim())
        return tuple(out)

    def dim(self) -> DimDecl:
        first = self.at
        name = self.name("the name of a dim")
        self.check_reserved(name, first)
        low = high = None
        if self.accept("in"):
            low = self.integer()
            self.expect("..")
            high = self.integer()
        self.expect("=")
        self.in_op = False
        size = self.expression()
        loc = self.since(first)
        if low is not None and not isinstance(size, Num):
            self.fail("a dim with a range has a number as its default", ["a number"], loc=loc)
        return DimDecl(name, size, low, high, loc=loc)

    def op_def(self) -> OpDef:
        name, inputs, outputs, dims, loc = self.header("")
        self.in_op = True
        self.dims_known = frozenset(d.name for d in dims)
        opened = self.loc()
        self.expect("{")
        equations: list[Equation] = []
        while self.token != "}":
            if not self.token:
                self.fail("this `{` is never closed", ["`}`"], loc=opened)
            equations.append(self.equation())
        self.advance()
        self.in_op = False
        return OpDef(name, inputs, outputs, dims, tuple(equations), loc=loc)

    def equation(self) -> Equation:
        first = self.at
        target = self.name("an equation, such as `y[i] = ...`")
        self.check_reserved(target, first)
        self.expect("[")
        self.operators = 0
        ranges = []
        if self.token != "]":
            ranges.append(self.range())
            while self.accept(","):
                ranges.append(self.range())
        self.expect("]")
        loc = self.since(first)
        self.expect("=")
        return Equation(target, tuple(ranges), self.expression(), loc=loc)

    def kernel(self) -> Kernel:
        name, inputs, outputs, dims, loc = self.header("%")
        return Kernel(name, inputs, outputs, dims, self.kernel_body(), loc=loc)

    def program(self) -> Program:
        name, inputs, outputs, dims, loc = self.header("%")
        return Program(name, inputs, outputs, dims, self.program_block(), loc=loc)

    def program_block(self) -> tuple[ProgramStmt, ...]:
        opened = self.loc()
        self.blocks += 1
        if self.blocks > 40:
            self.fail("blocks nested more than 40 deep", code="too-deep")
        self.expect("{")
        out: list[ProgramStmt] = []
        while self.token != "}":
            if not self.token:
                self.fail("this `{` is never closed", ["`}`"], loc=opened)
            out.append(self.program_statement())
        self.advance()
        self.blocks -= 1
        return tuple(out)

    def program_statement(self) -> ProgramStmt:
        first = self.at
        match self.token:
            case "temp":
                self.advance()
                name = self.prefixed("%", "a temporary")
                self.expect(":")
                return Temp(name, self.tensor_type(), loc=self.since(first))
            case "call":
                self.advance()
                kernel = self.prefixed("@", "a kernel")
                args = self.views()
                self.expect("->")
                return KernelCall(kernel, args, self.views(), loc=self.since(first))
            case "repeat":
                self.advance()
                var = self.prefixed("%", "a step")
                self.expect("=")
                lo = self.expression()
                self.expect("to")
                hi = self.expression()
                loc = self.since(first)
                return Repeat(var, lo, hi, self.program_block(), loc=loc)
            case "once":
                self.advance()
                return Once(self.program_block(), loc=self.since(first))
        words = ("temp", "call", "repeat", "once")
        self.unexpected(*(f"`{w}`" for w in words), known=words)

    def views(self) -> tuple[View, ...]:
        self.expect("(")
        out: list[View] = []
        while self.token != ")":
            if out:
                self.expect(",")
            first = self.at
            name = self.prefixed("%", "a tensor")
            indices = ()
            if self.token == "[":
                indices, fill = self.coordinates()  # type: ignore[assignment]
                if fill is not None:
                    self.fail("a view has no `else`", loc=fill.loc)
            out.append(View(name, indices, loc=self.since(first)))
        self.advance()
        return tuple(out)

    def tuned_block(self) -> Tuned:
        first = self.at
        self.advance()
        kernel = self.prefixed("@", "a kernel")
        self.expect("for")
        target = self.name("a target, such as `nvidia.sm_90`")
        arch = self.name("an architecture") if self.accept(".") else ""
        loc = self.since(first)
        self.expect("{")
        knobs: list[tuple[str, int | str | bool]] = []
        while self.token != "}":
            if knobs:
                self.expect(",")
            key = self.name("a knob")
            self.expect("=")
            knobs.append((key, self.knob_value()))
        self.advance()
        return Tuned(kernel, target, arch, tuple(knobs), loc=loc)

    def knob_value(self) -> int | str | bool:
        if self.token in ("true", "false"):
            return self.advance() == "true"
        return self.name() if self.is_name() else self.integer("a number or a word")


def inherited_dims(item: Kernel | Program, items: tuple[Item, ...]) -> tuple[DimDecl, ...]:
    """Dims of a kernel that states none: those of the op of its name, or of the only op."""
    ops = [i for i in items if isinstance(i, OpDef)]
    named = [o for o in ops if o.name == item.name]
    if named:
        return named[0].dims
    return ops[0].dims if len(ops) == 1 else ()


def inherit_dims(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """Fill in the dims that kernels and programs leave out."""
    return tuple(
        replace(i, dims=inherited_dims(i, items))
        if isinstance(i, Kernel | Program) and not i.dims
        else i
        for i in items
    )


def suggest_item(name: str, module: Module) -> str:
    """A near miss among the names of a module's kernels and ops."""
    return near(name, (*module.kernels, *module.ops, *module.programs))
