"""Python numbers in ``reference()``: what does not depend on any tensor."""

from __future__ import annotations

import math
from collections.abc import Callable

_POWERS = {"sqrt": "** 0.5", "rsqrt": "** -0.5"}
_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "exp": math.exp, "exp2": lambda x: 2.0**x, "log": math.log, "log2": math.log2,
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "tanh": math.tanh, "erf": math.erf,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)), "floor": math.floor, "ceil": math.ceil,
    "round": round, "trunc": math.trunc, "abs": abs,
}  # fmt: skip


def number(value: int | float) -> str:
    """A literal as Python text."""
    if isinstance(value, int):  # True and False are numbers too
        return str(value)
    if math.isnan(value):
        return 'float("nan")'
    if math.isinf(value):
        return 'float("inf")' if value > 0 else 'float("-inf")'
    return repr(value)


def python_function(fn: str, args: list[str]) -> tuple[str, int]:
    """A function of Python numbers: its text, and the level at which that binds."""
    if fn in _POWERS:
        return f"{_atom(args[0])} {_POWERS[fn]}", 5
    if fn == "pow":
        return f"{_atom(args[0])} ** {_atom(args[1])}", 5
    if fn in ("min", "max", "abs"):
        return f"{fn}({', '.join(args)})", 9
    if fn == "not":
        return f"(not {args[0]})", 9
    try:
        return number(float(_FUNCTIONS[fn](float(args[0])))), 5
    except (ValueError, OverflowError):
        return f"torch.{fn}(torch.tensor(float({args[0]}), dtype=torch.float64)).item()", 9


def _atom(text: str) -> str:
    return text if text.replace(".", "").isalnum() else f"({text})"
