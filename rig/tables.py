"""Tables of text."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[object]], align: str = "<") -> str:
    """
    Columns as wide as their widest cell, two spaces apart.

    :param rows: cells; all rows have the same number, and there is at least one row.
    :param align: ``<`` or ``>`` for each column; the last one counts for all further columns.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    sides = align.ljust(len(widths), align[-1])
    lines = (
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=False))
        for row in texts
    )
    return "\n".join(line.rstrip() for line in lines)
