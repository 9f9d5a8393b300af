"""The program: what all commands share.

Exit codes: 0 done, 1 the store or the thing asked for could not be had, 2 the command line or a setting is wrong.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EPIPE
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import click
from rich.text import Text

from otel_sessions.base import settings
from otel_sessions.base.errors import OtelSessionsError, SettingError, StoreError
from otel_sessions.cli.output import Output
from otel_sessions.cli.text import printable, typed
from otel_sessions.store import Store, open_store

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(slots=True)
class Run:
    """One run of the program: where it writes, and which store it was told to use."""

    output: Output = field(default_factory=Output)
    given: str | None = None

    @property
    def settings(self) -> settings.Settings:
        """The settings in force: the command line over the environment over the defaults."""
        return settings.load({"store": self.given})

    def store(self, *, create: bool = False) -> Store:
        """The store in force, not connected yet. Unless ``create``, a local one must exist."""
        dsn = self.settings.store_dsn
        if dsn == "none":
            raise SettingError("store", dsn, "a store to read from", "Give --store DSN or unset OTEL_SESSIONS_STORE.")
        if not create and (folder := missing_folder(dsn)):
            raise StoreError(f"there is no store in {folder} yet. Run {self.again('demo')}, or a program of your own.")
        return open_store(dsn)

    def again(self, command: str) -> str:
        """``command`` as the user has to type it to reach the same store."""
        shown = f" --store {shlex.quote(settings.masked(self.given))}" if self.given else ""
        return printable(f"otel-sessions{shown} {command}")

    def say_next(self, *commands: str) -> None:
        """Write what can be typed next."""
        shown = [line for command in commands for line in typed(self.again(command), self.output.width)]
        self.output.lines(["", Text("Next:", "bold"), *(Text(line, "cyan") for line in shown)])


def missing_folder(dsn: str) -> Path | None:
    """The folder of a local store that was not made yet, be there another folder or none. Reading must not make it."""
    folder = Path(unquote(urlsplit(dsn).path))
    return folder if dsn.startswith("chdb:///") and not _holds_store(folder) else None


def _holds_store(folder: Path) -> bool:
    """The engine was there: it keeps ``metadata``, ``status`` while open, and nothing but ``tmp`` without a database."""
    try:
        names = {entry.name for entry in folder.iterdir()}
    except FileNotFoundError:
        return False
    except OSError:
        return True  # the engine says what is wrong with it
    return not names.isdisjoint({"metadata", "status"}) or names == {"tmp"}


class Program(click.Group):
    """A group whose commands fail with one line on stderr and the right exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except OtelSessionsError as error:
            ctx.ensure_object(Run).output.error(str(error))
            ctx.exit(2 if isinstance(error, SettingError) else 1)
        except OSError as error:
            if error.errno == EPIPE:
                raise  # who reads has seen enough; click ends quietly
            ctx.ensure_object(Run).output.error(str(error))
            sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - what is buffered goes nowhere
            ctx.exit(1)
        return result


def _remember_store(ctx: click.Context, _parameter: click.Parameter, dsn: str | None) -> None:
    if dsn is not None:
        ctx.ensure_object(Run).given = dsn


def store_option(command: _Command) -> _Command:
    """``--store DSN``, on the program and on each command that opens the store."""
    return click.option(
        "--store",
        metavar="DSN",
        expose_value=False,
        callback=_remember_store,
        help="http(s)://user:pass@host:port/db, chdb:///path or chdb://memory. "
        "Default: OTEL_SESSIONS_STORE, else the local store.",
    )(command)


def json_option(command: _Command) -> _Command:
    """``--json``: one JSON document on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(command)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="otel-sessions", prog_name="otel-sessions")
@store_option
@click.pass_context
def program(ctx: click.Context) -> None:
    """LLM sessions on OpenTelemetry and ClickHouse: what a run cost, which step, how long, what failed."""
    ctx.ensure_object(Run)


def main() -> None:
    """Entry point of ``otel-sessions``."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding cannot show must not end the program.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    program(prog_name="otel-sessions")
