"""Tables and colour: plain text when piped or when NO_COLOR is set, and on narrow terminals."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

_STYLES = {"good": "32", "bad": "31", "added": "32", "removed": "31", "dim": "2", "bold": "1"}


def coloured(stream: object = None) -> bool:
    """Whether to write colour: only to a terminal, and not with NO_COLOR or TERM=dumb."""
    stream = stream or sys.stdout
    tty = bool(getattr(stream, "isatty", lambda: False)())
    return tty and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(style: str, text: str) -> str:
    """``text`` in one of the styles, or as it is where there is no colour."""
    code = _STYLES.get(style)
    return f"\x1b[{code}m{text}\x1b[0m" if code and coloured() else text


def width() -> int:
    """Columns of the terminal; 120 when the output is piped."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return 120
    return max(20, shutil.get_terminal_size((100, 24)).columns)


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] | None = None
) -> None:
    """A table with one line a row; where it does not fit, one block of ``name: value`` a row."""
    widths = [max(len(r[i]) for r in (header, *rows)) for i in range(len(header))]
    if sum(widths) + 2 * len(widths) > width():
        _print_blocks(header, rows, styles)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in header:
        table.add_column(name, no_wrap=True)
    for i, row in enumerate(rows):
        style = {"good": "green", "bad": "red"}.get(styles[i] if styles else "", "")
        table.add_row(*(Text(cell, style=style if j == 0 else "") for j, cell in enumerate(row)))
    console = Console(width=width(), force_terminal=coloured(), highlight=False)
    with console.capture() as text:
        console.print(table)
    print("\n".join(line.rstrip() for line in text.get().splitlines()))


def _print_blocks(
    header: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] | None
) -> None:
    for i, row in enumerate(rows):
        print(paint(styles[i] if styles else "", row[0]))
        for name, cell in zip(header[1:], row[1:], strict=True):
            if cell:
                print_wrapped(f"{name}: {cell}", "  ")


def print_wrapped(text: str, indent: str = "") -> None:
    """A paragraph, wrapped to the terminal, continued two columns deeper."""
    print(
        textwrap.fill(
            text, width(), initial_indent=indent, subsequent_indent=indent + "  ",
            break_long_words=False, break_on_hyphens=False,
        )
    )  # fmt: skip
