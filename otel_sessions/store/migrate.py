"""Applies the schema: numbered files once and in order, views anew each time.

``otel_sessions_schema`` in the database records each applied file with the SHA-256 of its text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

from otel_sessions.base.errors import SchemaError
from otel_sessions.store.connection import Connection

_CREATE_RECORD = """
CREATE TABLE IF NOT EXISTS otel_sessions_schema /*on_cluster*/
(file String, hash String, applied_at DateTime('UTC') DEFAULT now('UTC'), package_version String)
ENGINE = /*replicated*/MergeTree ORDER BY file
"""
_RECORDED = "SELECT file, argMin(hash, applied_at), argMin(package_version, applied_at) FROM otel_sessions_schema GROUP BY file ORDER BY file"
_RECORD = (
    "INSERT INTO otel_sessions_schema (file, hash, package_version) VALUES ({file:String}, {hash:String}, {v:String})"
)
# Table and the time that says how old a row is.
_RETAINED = {
    "otel_traces": "toDateTime(Timestamp)",
    "llm_calls": "toDateTime(started_at)",
    "suppressed_calls": "toDateTime(started_at)",
    "open_calls": "toDateTime(started_at)",
    "session_rollup": "toDateTime(ended_at)",
    "path_rollup": "toDateTime(ended_at)",
    "model_rollup": "hour",
}
DATA_TABLES = tuple(_RETAINED)
"""What spans fill: the raw ones, and all that is made of them."""
_TTL_OF = "SELECT extract(create_table_query, ' TTL (.*?)(?: SETTINGS|$)') FROM system.tables WHERE database = currentDatabase() AND name = {table:String}"


@dataclass(frozen=True, slots=True)
class SchemaFile:
    """A file of the schema: its name, its text, and the SHA-256 of the text."""

    name: str
    text: str

    @property
    def hash(self) -> str:
        """SHA-256 of the text, hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> tuple[str, ...]:
        """The statements; each ends with a semicolon at the end of a line."""
        parts = re.split(r";[ \t]*(?:\n|$)", self.text)
        return tuple(part.strip() for part in parts if _without_comments(part).strip())


@dataclass(frozen=True, slots=True)
class FileState:
    """``state`` of a schema file: ``applied``, ``pending``, ``changed`` (by hand), or ``newer`` than this package."""

    file: str
    state: str


def migrate(connection: Connection, retention_days: int, report: Callable[[str], object]) -> tuple[str, ...]:
    """See :meth:`otel_sessions.store.Store.migrate`."""
    cluster = connection.target.cluster
    database = f"CREATE DATABASE IF NOT EXISTS {_quoted(connection.target.database)} /*on_cluster*/"
    connection.check_room()
    connection.command(rendered(database, cluster), in_database=False)
    connection.command(rendered(_CREATE_RECORD, cluster))
    recorded = _recorded(connection)
    _check(connection, recorded)
    pending = [file for file in schema_files() if file.name not in recorded]
    for file in pending:
        report(file.name)
        for statement in file.statements:
            connection.command(rendered(statement, cluster))
        connection.command(_RECORD, {"file": file.name, "hash": file.hash, "v": _package_version()})
    for view in view_files():
        for statement in view.statements:
            connection.command(rendered(statement, cluster))
    _retain(connection, retention_days)
    return tuple(file.name for file in pending)


def rendered(statement: str, cluster: str) -> str:
    """``statement`` for the replicas of ``cluster``, whose tables remember batches as those of a single server do."""
    if not cluster:
        return statement
    everywhere = statement.replace("/*on_cluster*/", f"ON CLUSTER {_quoted(cluster)}")
    replicated = everywhere.replace("/*replicated*/", "Replicated")
    return replicated.replace("non_replicated_deduplication_window", "replicated_deduplication_window")


def schema_state(connection: Connection) -> list[FileState]:
    """See :meth:`otel_sessions.store.Store.schema_state`."""
    try:
        recorded = _recorded(connection)
    except SchemaError:
        recorded = {}
    known = {file.name: file for file in schema_files()}
    return [
        FileState(name, _state(known.get(name), recorded.get(name, ("", ""))[0]))
        for name in sorted({*known, *recorded})
    ]


@lru_cache(maxsize=1)
def schema_files() -> tuple[SchemaFile, ...]:
    """The numbered files, in order."""
    return tuple(_read("schema"))


@lru_cache(maxsize=1)
def view_files() -> tuple[SchemaFile, ...]:
    """The files of the views, by name."""
    return tuple(_read("views"))


def _read(folder: str) -> Iterator[SchemaFile]:
    for entry in sorted(files("otel_sessions.store").joinpath(folder).iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            yield SchemaFile(entry.name, entry.read_text("utf-8"))


def _recorded(connection: Connection) -> dict[str, tuple[str, str]]:
    return {file: (digest, by) for file, digest, by in connection.query(_RECORDED).result_rows}


def _check(connection: Connection, recorded: dict[str, tuple[str, str]]) -> None:
    known = {file.name: file for file in schema_files()}
    for name, (digest, by) in recorded.items():
        state = _state(known.get(name), digest)
        if state == "newer":
            raise SchemaError(
                f"{connection.target.shown}: the database has {name}, applied by otel-sessions {by}; this is "
                f"{_package_version()}. Install that version or a later one: pip install --upgrade otel-sessions"
            )
        if state == "changed":
            raise SchemaError(
                f"{connection.target.shown}: {name} was applied by otel-sessions {by} with another text (SHA-256 "
                f"{digest[:12]}…). Applied files never change: restore the package's file, or use a new database."
            )


def _state(file: SchemaFile | None, recorded_hash: str) -> str:
    if not recorded_hash:
        return "pending"
    if file is None:
        return "newer"
    return "applied" if file.hash == recorded_hash else "changed"


def _retain(connection: Connection, days: int) -> None:
    for table, age in _RETAINED.items():
        current = connection.query(_TTL_OF, {"table": table}).result_rows[0][0]
        wanted = f"{age} + toIntervalDay({days})" if days else ""
        if current == wanted:
            continue
        clause = f"MODIFY TTL {wanted}" if days else "REMOVE TTL"
        connection.command(f"ALTER TABLE {table} {clause}")


def _quoted(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _without_comments(sql: str) -> str:
    return re.sub(r"--[^\n]*", "", sql)


def _package_version() -> str:
    try:
        return version("otel-sessions")
    except PackageNotFoundError:
        return "unknown"
