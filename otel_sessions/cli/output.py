"""Where a command writes: rows or one JSON document on stdout; progress, notes and errors on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO

from rich.console import Console
from rich.text import Text

from otel_sessions.cli.document import to_json
from otel_sessions.cli.text import printable

_UNLIMITED = 100_000
_ASCII = str.maketrans("…–─├└│━✗✓≥→“”", '~--|`|=x+>>""')  # noqa: RUF001


class Output:
    """The two streams of one run. ``width`` is the terminal's; a pipe has no width, so there nothing is cut."""

    def __init__(self) -> None:
        self._out = _console(sys.stdout)
        self._error = _console(sys.stderr)

    @property
    def on_terminal(self) -> bool:
        """Someone is looking at stdout."""
        return self._out.is_terminal

    @property
    def width(self) -> int:
        """Cells per line on stdout."""
        return self._out.width

    def lines(self, lines: Iterable[Text | str]) -> None:
        """Write ``lines`` to stdout. They fit already, or are to be broken by the terminal itself."""
        for line in lines:
            _write(self._out, line)

    def entry(self, label: Text, value: Text) -> None:
        """Write ``value`` beside ``label``, broken at the terminal's width."""
        margin = label.cell_len
        for line in value.wrap(self._out, max(20, self.width - margin), overflow="fold"):
            line.rstrip()
            _write(self._out, Text.assemble(label, line))
            label = Text(" " * margin)

    def document(self, value: object) -> None:
        """Write ``value`` as the one JSON document of this run."""
        self.raw(to_json(value))

    def raw(self, text: str) -> None:
        """Write ``text`` unchanged, for machines."""
        self._out.file.write(text + "\n")

    def note(self, text: str) -> None:
        """Say something to whoever looks, apart from the result."""
        for line in text.splitlines():
            _write(self._error, Text(printable(line), "dim"))

    def error(self, text: str) -> None:
        """One line on stderr: what is wrong, and the way out."""
        _write(self._error, Text.assemble(("error: ", "bold red"), printable(text)))

    @contextmanager
    def working(self, what: str) -> Iterator[Callable[[str], None]]:
        """Show that ``what`` is going on, on a terminal only; gives a function that says what is going on now."""
        if not self._error.is_terminal or self._error.color_system is None:
            yield lambda _what: None
            return
        with self._error.status(Text(printable(what), "dim")) as status:
            yield lambda now: status.update(Text(printable(now), "dim"))


def _console(stream: IO[str]) -> Console:
    # NO_COLOR asks for plain text; rich alone would still write bold and dim.
    plain = bool(os.environ.get("NO_COLOR"))
    console = Console(
        file=stream, highlight=False, markup=False, emoji=False, color_system=None if plain else "auto", soft_wrap=True
    )
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNLIMITED
    return console


def _write(console: Console, line: Text | str) -> None:
    text = Text(line) if isinstance(line, str) else line
    if not console.encoding.startswith("utf"):
        text = text.copy()
        text.plain = text.plain.translate(_ASCII)
    console.print(text, soft_wrap=True, crop=False)
