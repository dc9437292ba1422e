"""A program's ``once`` sections and the rest of it as programs of their own.

What is computed once per set of weights has a cost of its own, which is reported beside the cost of
each execution and never inside it.
"""

from __future__ import annotations

from dataclasses import replace

from ke_ir.ir import (
    KernelCall,
    Once,
    Param,
    Program,
    ProgramStmt,
    Repeat,
    Temp,
    program_statements,
)

Body = tuple[ProgramStmt, ...]


def without_once(program: Program) -> Program:
    """What is executed each time: it takes what the ``once`` sections computed as inputs too.

    A program without such sections is returned as it is.
    """
    once, rest = _parts(program)
    if not once:
        return program
    given = tuple(Param(n, program.temps[n]) for n in _handed_over(program))
    inputs = (*_inputs(program, rest), *given)
    return replace(program, inputs=inputs, body=_with_temps(program, rest))


def only_once(program: Program) -> Program | None:
    """What is computed once per set of weights, given as outputs; None without any."""
    once, _ = _parts(program)
    if not once:
        return None
    made = tuple(Param(n, program.temps[n]) for n in _handed_over(program))
    inputs, body = _inputs(program, once), _with_temps(program, once)
    return replace(program, inputs=inputs, outputs=made, body=body)


def _parts(program: Program) -> tuple[Body, Body]:
    """Statements of the ``once`` sections, and the others; without temporaries."""
    once = tuple(s for section in program.body if isinstance(section, Once) for s in section.body)
    rest = tuple(s for s in program.body if not isinstance(s, Once))
    return _no_temps(once), _no_temps(rest)


def _no_temps(body: Body) -> Body:
    return tuple(
        replace(s, body=_no_temps(s.body)) if isinstance(s, Repeat) else s
        for s in body
        if not isinstance(s, Temp)
    )


def _tensors(body: Body, written: bool = False) -> dict[str, None]:
    """Names of the tensors that calls use (or write), in order."""
    calls = [s for s in program_statements(body) if isinstance(s, KernelCall)]
    return dict.fromkeys(
        v.tensor for call in calls for v in (*(() if written else call.args), *call.outs)
    )


def _inputs(program: Program, body: Body) -> tuple[Param, ...]:
    """The program's inputs that these statements use."""
    used = _tensors(body)
    return tuple(p for p in program.inputs if p.name in used)


def _handed_over(program: Program) -> list[str]:
    """What the ``once`` sections write and the rest uses."""
    once, rest = _parts(program)
    used = _tensors(rest)
    return [n for n in _tensors(once, written=True) if n in used]


def _with_temps(program: Program, body: Body) -> Body:
    """The statements after declarations of the temporaries that are theirs alone."""
    handed = _handed_over(program)
    own = [n for n in _tensors(body) if n in program.temps and n not in handed]
    return (*(Temp(n, program.temps[n]) for n in own), *body)
