"""Rules for programs: calls, temporaries, repeats."""

from __future__ import annotations

from ke_ir.diagnostics import Reporter, near
from ke_ir.expr import Expr, evaluate_int, show, variables
from ke_ir.intervals import Interval, interval
from ke_ir.ir import (
    Kernel,
    KernelCall,
    Module,
    Once,
    Program,
    ProgramStmt,
    Repeat,
    Temp,
    View,
    bind_call,
)
from ke_ir.verify_size import check_shape, checked_size


def verify_program(p: Program, module: Module, report: Reporter) -> None:
    """Report what is wrong with the body of a program whose signature is right."""
    _ProgramVerifier(p, module, report).run()


class _ProgramVerifier:
    def __init__(self, p: Program, module: Module, report: Reporter) -> None:
        self.p, self.module, self.report = p, module, report
        self.sizes = p.sizes()
        self.written: set[str] = {x.name for x in p.inputs}
        self.temps: set[str] = set()
        self.sound: set[str] = set(p.tensors)  # tensors whose sizes are known
        self.steps: dict[str, Interval] = {}

    def run(self) -> None:
        before = len(self.report.found)
        self.block(self.p.body)
        for o in self.p.outputs:
            # After another complaint, a missing write would often be only its echo.
            if o.name not in self.written and len(self.report.found) == before:
                self.report.error("never-written", f"no call writes the output %{o.name}",
                                  self.p.loc)  # fmt: skip

    def block(self, body: tuple[ProgramStmt, ...]) -> None:
        for s in body:
            if isinstance(s, Temp):
                self.temp(s)
            elif isinstance(s, KernelCall):
                self.call(s)
            elif isinstance(s, Repeat):
                self.repeat(s)
            elif isinstance(s, Once):
                self.block(s.body)

    def temp(self, s: Temp) -> None:
        if s.name in self.p.tensors or s.name in self.temps:
            self.report.error("redefined", f"%{s.name} is already defined", s.loc, ["another name"])
        self.temps.add(s.name)
        if check_shape(s.name, s.type.shape, self.sizes, s.loc, self.report):
            self.sound.add(s.name)

    def repeat(self, s: Repeat) -> None:
        lo = checked_size(s.lo, self.sizes, s.loc, self.report)
        hi = checked_size(s.hi, self.sizes, s.loc, self.report)
        if s.var in self.steps or s.var in self.p.tensors or s.var in self.p.temps:
            what = "a step" if s.var in self.steps else "a tensor"
            self.report.error("redefined", f"%{s.var} is already {what}", s.loc, ["another name"])
            return
        self.steps[s.var] = Interval(lo, None if hi is None else hi - 1)
        # A step may read what an earlier step wrote, so what the body writes counts as written.
        before = set(self.written)
        self.written |= {v.tensor for c in _calls(s.body) for v in c.outs}
        self.block(s.body)
        self.written |= before
        del self.steps[s.var]

    def call(self, s: KernelCall) -> None:
        k = self.module.kernels.get(s.kernel)
        if k is None:
            self.report.error("unknown-kernel", f"there is no kernel @{s.kernel}", s.loc,
                              sorted(self.module.kernels),
                              near(s.kernel, self.module.kernels))  # fmt: skip
            return
        if len(s.args) != len(k.inputs) or len(s.outs) != len(k.outputs):
            self.report.error(
                "arity",
                f"@{s.kernel} has {len(k.inputs)} inputs and {len(k.outputs)} outputs; "
                f"{len(s.args)} and {len(s.outs)} are given", s.loc,
            )  # fmt: skip
            return
        if not all([self.view(v) for v in (*s.args, *s.outs)]):
            return
        self.access(s, k)

    def view(self, v: View) -> bool:
        tensors = {**self.p.tensors, **self.p.temps}
        if v.tensor not in tensors or (
            v.tensor not in self.p.tensors and v.tensor not in self.temps
        ):
            self.report.error("unknown-tensor", f"there is no tensor %{v.tensor} here", v.loc,
                              ["an argument, or a `temp` declared before"],
                              near(v.tensor, tensors))  # fmt: skip
            return False
        if len(v.indices) > len(tensors[v.tensor].shape):
            self.report.error("rank", f"%{v.tensor} has {len(tensors[v.tensor].shape)} dimensions",
                              v.loc, ["fewer indices"])  # fmt: skip
            return False
        before = len(self.report.found)
        for e, size in zip(v.indices, tensors[v.tensor].shape, strict=False):
            self.index(e, size, v)
        # Where a size is wrong, calls would only repeat the complaint.
        return len(self.report.found) == before and v.tensor in self.sound

    def index(self, e: Expr, size: Expr, v: View) -> None:
        """One index of a view: of dims and steps, and not always outside."""
        for name in variables(e):
            if name not in self.steps:
                self.report.error("undefined", f"%{name} is not a step of a `repeat` here", v.loc,
                                  [f"%{s}" for s in self.steps],
                                  near(name, self.steps))  # fmt: skip
                return
        firsts = {**self.sizes, **{s: i.lo or 0 for s, i in self.steps.items()}}
        if checked_size(e, firsts, v.loc, self.report) is None or v.tensor not in self.sound:
            return
        n = evaluate_int(size, self.sizes)
        if interval(e, self.sizes, self.steps).outside(0, n):
            self.report.error("out-of-range", f"`{show(e, '%')}` is always outside the first "
                              f"{n} parts of %{v.tensor}", v.loc, [f"0 to {n - 1}"])  # fmt: skip

    def access(self, s: KernelCall, k: Kernel) -> None:
        for v in s.args:
            if v.tensor not in self.written:
                self.report.error("unwritten", f"%{v.tensor} is read before anything writes it",
                                  v.loc)  # fmt: skip
        inputs = {x.name for x in self.p.inputs}
        for v in s.outs:
            if v.tensor in inputs:
                self.report.error("writes-input", f"%{v.tensor} is an input, and written", v.loc,
                                  ["an output or a `temp`"])  # fmt: skip
            if any(v.tensor == a.tensor and v.indices == a.indices for a in s.args):
                self.report.error("reads-output", f"the call reads and writes %{v.tensor}", v.loc,
                                  ["different tensors"], "write to a `temp` first")  # fmt: skip
            self.written.add(v.tensor)
        try:
            bind_call(self.p, s, k, self.sizes)
        except ValueError as bad:
            self.report.error("call-shape", str(bad), s.loc)
        except KeyError:
            pass  # a dim that the kernel does not declare: reported there


def _calls(body: tuple[ProgramStmt, ...]) -> list[KernelCall]:
    from ke_ir.ir import program_statements

    return [s for s in program_statements(body) if isinstance(s, KernelCall)]
