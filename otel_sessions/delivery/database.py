"""The spool's SQLite file: opening it, its bounds, its failures, and keeping it away from a fork."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path

from otel_sessions.base.errors import SpoolError
from otel_sessions.base.guard import count
from otel_sessions.base.threads import new_rlock

_FORMAT = 2
_BUSY_SECONDS = 1.0
_PAGE = 4096
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# Free pages, 64 MB, that are given back to the disk when nothing waits.
_SPARE_PAGES = 16_384


class SpoolFullError(SpoolError):
    """No room: the bound in bytes is reached, or the disk is full."""


class SpoolLostError(SpoolError):
    """The file was deleted, or damaged and set aside; what it held is lost to this process."""


class Database:
    """One SQLite file in WAL mode, at most ``max_bytes`` long. One connection per process, one user at a time.

    A connection must not live through a fork, so it is closed before and opened again after one.
    """

    def __init__(self, path: Path, max_bytes: int, store: str = "") -> None:
        self.path = path
        self.max_bytes = max_bytes
        self._store = store
        self._lock = new_rlock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        _ALIVE.add(self)

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one statement that commits by itself. Raises :class:`SpoolError`."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                    self._identity = self._found()
                elif self._found() != self._identity:
                    raise self._deleted()
                yield self._connection
            except (sqlite3.Error, OSError) as error:
                raise self._translated(error) from error

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """The connection inside one transaction: all of the block or nothing. Raises :class:`SpoolError`."""
        with self.use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            # SQLite may have rolled back by itself, when the disk was full for instance; then COMMIT raises.
            connection.execute("COMMIT")

    def bytes_used(self) -> int:
        """Bytes in use inside the file."""
        with self.use() as connection:
            return _PAGE * (_pragma(connection, "page_count") - _pragma(connection, "freelist_count"))

    def give_back(self) -> None:
        """Shorten the file if much of it is free."""
        with self.use() as connection:
            if _pragma(connection, "freelist_count") > _SPARE_PAGES:
                # execute() would step once, and each step frees one page.
                connection.executescript(f"PRAGMA incremental_vacuum({_SPARE_PAGES // 4})")

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()

    def before_fork(self) -> None:
        """Wait for the statement that runs, close, and let nobody in until the fork is done."""
        self._lock.acquire()
        self.close()

    def after_fork_in_parent(self) -> None:
        """Let users in again."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Let users in again; the threads that might have held the lock are not here."""
        self._lock = new_rlock()

    def _found(self) -> tuple[int, int] | None:
        """Which file is at the path now."""
        with suppress(FileNotFoundError, NotADirectoryError):
            found = self.path.stat()
            return found.st_dev, found.st_ino
        return None

    def _deleted(self) -> SpoolLostError:
        """Writing would succeed, into a file that no process finds any more."""
        self.close()
        count(
            "spool.deleted",
            "otel-sessions: the spool %s was deleted or replaced, with all that waited in it",
            self.path,
        )
        return SpoolLostError(f"{self.path} was deleted")

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_new = not self.path.exists()
        # Never open the file but with SQLite: closing it would drop the locks of every connection of this process, and
        # another process that ends would then delete the log that they write to.
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            if is_new:
                # Spans may hold content: for this user's eyes only. SQLite gives its side files the same mode.
                self.path.chmod(0o600)
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        for pragma in (
            f"page_size = {_PAGE}",
            "auto_vacuum = INCREMENTAL",
            "journal_mode = WAL",
            # A killed process loses nothing; a power cut may lose what came after the last checkpoint (4 MB). FULL would
            # cost one fsync per batch.
            "synchronous = NORMAL",
            f"max_page_count = {max(64, self.max_bytes // _PAGE)}",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        if _pragma(connection, "user_version") == 0:
            self._create(connection)
        if (found := _pragma(connection, "user_version")) != _FORMAT:
            raise sqlite3.DatabaseError(f"its format is {found}, this package knows {_FORMAT}")

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        if _pragma(connection, "user_version") == 0:
            for statement in files(__package__).joinpath("spool.sql").read_text("utf-8").split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO about VALUES (?)", (self._store,))
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute("COMMIT")

    def _translated(self, error: sqlite3.Error | OSError) -> SpoolError:
        code = getattr(error, "sqlite_errorcode", None)
        if code in _DAMAGED:
            return self._set_aside(error)
        if code == sqlite3.SQLITE_FULL:
            return SpoolFullError(f"{self.path} is full ({error})")
        if code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            # A disk or folder that failed may be mended; the old connection would not notice.
            self.close()
        return SpoolError(f"{self.path}: {error}")

    def _set_aside(self, error: Exception) -> SpoolError:
        self.close()
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        with suppress(OSError):
            self.path.rename(aside)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        count("spool.damaged", "otel-sessions: the spool is damaged (%s) and was set aside as %s", error, aside)
        return SpoolLostError(f"{self.path} is damaged: {error}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


_ALIVE: weakref.WeakSet[Database] = weakref.WeakSet()
_forking = threading.local()


def _before_fork() -> None:
    _forking.held = tuple(_ALIVE)
    for database in _forking.held:
        database.before_fork()


def _after_fork_in_parent() -> None:
    for database in _forking.held:
        database.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for database in _forking.held:
        database.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
