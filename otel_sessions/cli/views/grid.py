"""Tables that fit: too wide, they cut the columns that may be cut, then leave out the least important ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from rich.cells import cell_len, chop_cells
from rich.text import Text

GAP = 2
_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    ``weight`` orders the columns: the lightest is left out first, 0 means never. ``cut`` is the width that the
    column may be cut to with an ellipsis, ``fold`` the width below which it is broken over lines rather than cut.
    """

    title: str
    cells: Sequence[Text]
    weight: int = 0
    right: bool = True
    cut: int | None = None
    fold: int | None = None

    @property
    def natural(self) -> int:
        """Width of the widest cell."""
        return max([cell_len(self.title), *(cell.cell_len for cell in self.cells)])

    @property
    def least(self) -> int:
        """Width that the column needs at least."""
        limits = [limit for limit in (self.cut, self.fold) if limit is not None]
        return min([self.natural, *limits])


def figures(title: str, rows: Iterable[_Row], cell: Callable[[_Row], Text | str], weight: int) -> Column:
    """A column of numbers, which is never cut, only left out."""
    made = (cell(row) for row in rows)
    return Column(title, [Text(item) if isinstance(item, str) else item for item in made], weight)


def table(columns: Sequence[Column], width: int) -> list[Text]:
    """The lines of a table of at most ``width`` cells, where the weights allow it."""
    kept = _kept(columns, width)
    widths = _widths(kept, width)
    head = [Text(column.title, "dim") for column in kept]
    lines = _row(kept, widths, head)
    for cells in zip(*(column.cells for column in kept), strict=True):
        lines += _row(kept, widths, cells)
    return lines


def fits(columns: Sequence[Column], width: int) -> bool:
    """All columns fit into ``width``."""
    return _total([column.least for column in columns]) <= width


def _kept(columns: Sequence[Column], width: int) -> list[Column]:
    kept = list(columns)
    while not fits(kept, width) and any(column.weight for column in kept):
        kept.remove(min((column for column in kept if column.weight), key=lambda column: column.weight))
    return kept


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    widths = [column.natural for column in columns]
    # What may be cut gives way before what would be folded, so that ids stay in one piece.
    _shrink(widths, [column.cut for column in columns], width)
    _shrink(widths, [column.fold for column in columns], width)
    return widths


def _shrink(widths: list[int], limits: Sequence[int | None], width: int) -> None:
    """Take from the column that has most to give, down to the next one, until the table fits or nothing is left."""
    spare = [0 if limit is None else max(0, now - limit) for now, limit in zip(widths, limits, strict=True)]
    while (excess := _total(widths) - width) > 0 and (most := max(spare, default=0)) > 0:
        at = spare.index(most)
        runner_up = max((left for other, left in enumerate(spare) if other != at), default=0)
        taken = min(most, excess, max(1, most - runner_up))
        widths[at] -= taken
        spare[at] -= taken


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _row(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[Text]) -> list[Text]:
    pieces = [_pieces(column, cell, width) for column, cell, width in zip(columns, cells, widths, strict=True)]
    return [_line(columns, widths, parts) for parts in zip_longest(*pieces, fillvalue=Text())]


def _pieces(column: Column, cell: Text, width: int) -> list[Text]:
    if cell.cell_len <= width:
        return [cell]
    if column.fold is not None:
        return [Text(part, cell.style) for part in chop_cells(cell.plain, width)]
    cut = cell.copy()
    cut.truncate(width, overflow="ellipsis")
    return [cut]


def _line(columns: Sequence[Column], widths: Sequence[int], parts: Sequence[Text]) -> Text:
    line = Text()
    for column, width, part in zip(columns, widths, parts, strict=True):
        blanks = " " * (width - part.cell_len)
        line.append_text(Text.assemble(blanks, part) if column.right else Text.assemble(part, blanks))
        line.append(" " * GAP)
    line.rstrip()
    return line
