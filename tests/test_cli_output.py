"""Where commands write."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.text import Text

from otel_sessions.cli.app import Run
from otel_sessions.cli.output import Output


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def terminals(monkeypatch: pytest.MonkeyPatch, **environment: str) -> tuple[Terminal, Terminal]:
    """Terminals in place of stdout and stderr, from here to the end of the test."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **environment}.items():
        monkeypatch.setenv(name, value)
    out, error = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", error)
    return out, error


def test_progress_goes_to_the_terminal_behind_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is announced on stderr, can say what it does now, and leaves stdout alone."""
    out, error = terminals(monkeypatch)
    with Output().working("reading") as now:
        now("still reading\x1b[2J")
    assert "reading" in error.getvalue()
    assert "\x1b[2J" not in error.getvalue()
    assert out.getvalue() == ""


def test_without_colour_there_is_no_progress_and_no_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR makes all output plain text, on a terminal too."""
    streams = terminals(monkeypatch, NO_COLOR="1")
    output = Output()
    with output.working("reading"):
        output.lines([Text("x", "bold red")])
        output.error("bad")
    assert [stream.getvalue() for stream in streams] == ["x\n", "error: bad\n"]


def test_an_error_is_one_line_whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Line breaks and escapes in a message are shown, not obeyed."""
    _, error = terminals(monkeypatch)
    Output().error("line one\nline two \x1b[2J")
    assert error.getvalue().endswith("line one\\x0aline two \\x1b[2J\n")
    assert error.getvalue().count("\n") == 1


def test_long_values_hang_below_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that does not fit goes on beside its label, also where it is one long word."""
    out, _ = terminals(monkeypatch, NO_COLOR="1", COLUMNS="40")
    Output().entry(Text("models   "), Text("alpha beta " + "x" * 50))
    assert out.getvalue().splitlines() == [
        "models   alpha beta",
        f"         {'x' * 31}",
        f"         {'x' * 19}",
    ]


def test_an_encoding_without_lines_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guides, dashes and marks have an ASCII form of the same width."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace"))
    Output().lines([Text("├─ ✗ – ≥ é")])  # noqa: RUF001
    sys.stdout.flush()
    assert raw.getvalue() == b"|- x - > \\xe9\n"


def test_what_to_type_next_is_safe_to_paste(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is quoted for the shell, and its password is not repeated."""
    out, _ = terminals(monkeypatch)
    Run(given="http://ada:pw@host/db;rm -rf").say_next("list")
    shown = out.getvalue()
    assert "--store 'http://ada:***@host/db;rm -rf' list" in shown
    assert "pw" not in shown.replace("***", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [("prices", "list", "--book", "gpt-4o", "--csv"), ("prices", "list", "--book")])
def test_a_full_disk_is_one_line_and_no_traceback(arguments: tuple[str, ...]) -> None:
    """Whether the output filled the buffer or was still in it when the command had ended."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "otel_sessions.cli", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, "error: [Errno 28] No space left on device\n")
