"""One connection to ClickHouse, over HTTP or embedded (chDB), opened when it is first used.

Both speak through clickhouse-connect; what differs is how they are opened and how they fail. chDB allows one process
per directory and one directory per process, and hangs in a forked child.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from typing import Any

from clickhouse_connect.driver import create_client
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, Error, OperationalError
from clickhouse_connect.driver.query import QueryResult

from otel_sessions.base.errors import (
    ForkedStoreError,
    SchemaError,
    StoreError,
    StoreHeldError,
    StoreUnavailableError,
)
from otel_sessions.base.guard import guarded
from otel_sessions.base.threads import Bell, new_lock
from otel_sessions.store.dsn import MEMORY, Target
from otel_sessions.store.holder import UNKNOWN, other_holder
from otel_sessions.store.signals import kept_handlers

_CONNECT_TIMEOUT_SECONDS = 5
_LAST_STATEMENT_SECONDS = 30.0
_ROOM_BYTES = 16_000_000
# What a server answers when it is overloaded, starting, shutting down or without a part of its cluster:
# https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
_PASSING_CODES = frozenset({3, 95, 159, 202, 203, 209, 210, 225, 236, 241, 242, 243, 252, 265, 279, 285, 319, 394, 425, 439, 999})  # fmt: skip
# How the engine names what the system refuses it, under codes without number.
_SYSTEM_ERRORS = ("DB::ErrnoException", "filesystem_error", "std::bad_alloc")
_MISSING_CODES = frozenset({16, 47, 60, 81})
_READONLY_CODES = frozenset({164})

UNCOMPILED = {"compile_expressions": "0", "compile_aggregate_expressions": "0"}
"""Settings of a statement that the views follow: compiling them takes half a second of CPU once, and makes none faster."""

_engine_lost = False
_ours = threading.local()


def _is_foreign(_record: logging.LogRecord) -> bool:
    return not getattr(_ours, "calling", 0)


# The driver warns of every attempt that fails; ours are reported once, by whoever retries them.
for _driver in ("clickhouse_connect.driver._backend.http_sync", "urllib3.connectionpool"):
    logging.getLogger(_driver).addFilter(_is_foreign)


def _after_fork() -> None:
    global _engine_lost  # noqa: PLW0603 - one engine per process
    _engine_lost = "chdb" in sys.modules
    for connection in tuple(_connections):
        connection.leave_to_parent()
    if _engine_lost:
        _leave_without_the_engine()


def _leave_without_the_engine() -> None:
    """Have the end of this forked child, after Python's own, pass by the engine's destructors: they wait for threads of the parent."""
    with guarded("fork"):
        libc = ctypes.CDLL(None)
        if hasattr(libc, "on_exit"):  # glibc; what is registered last runs first
            libc.on_exit(libc._exit, None)  # noqa: SLF001 - its name; it gets the status
            libc.__cxa_atexit(libc.fflush, None, None)  # noqa: SLF001 - what C code of the program has printed


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass(slots=True)
class _Handles:
    """Two clients of one database: everything goes through ``main``, what users type through ``readonly``."""

    process: int
    main: Client
    readonly: Client | None = None


class Connection:
    """Runs statements in the database of ``target``; thread-safe."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._handles: _Handles | None = None
        self._ended = False
        self._no_statements()
        _connections.add(self)

    def leave_to_parent(self) -> None:
        """In a forked child: forget the lock, whose holder is not there to release it, and let go of the engine."""
        self._lock = threading.Lock()
        self._no_statements()
        if self._handles is not None and self.target.embedded:
            for client in filter(None, (self._handles.readonly, self._handles.main)):
                _abandon(client)

    def command(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        in_database: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Run a statement that returns nothing."""
        with self._errors():
            self._open().main.command(
                sql, parameters=dict(parameters or {}), use_database=in_database, settings=dict(settings or {})
            )

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> QueryResult:
        """Run a query of ours; ``{name:Type}`` parameters only."""
        with self._errors():
            return _read(self._open().main.query(sql, parameters=dict(parameters or {})))

    def query_readonly(self, sql: str, formats: Mapping[str, str] | None = None) -> QueryResult:
        """Run a query that a user typed; the engine refuses everything that writes. ``formats``: the driver's, by type."""
        with self._errors():
            # Without the setting, engine 26.9 fails ordinary queries with ORDER BY an expression (code 572).
            settings = {"query_plan_execute_functions_after_sorting": 0}
            return _read(self._open_readonly().query(sql, settings=settings, query_formats=dict(formats or {})))

    def insert(
        self,
        table: str,
        columns: Sequence[str],
        blocks: Iterable[bytes],
        settings: Mapping[str, str],
        form: str = "Native",
    ) -> None:
        """Write ``blocks`` in the format ``form``. They are read one at a time, and never stand in memory together."""
        with self._errors():
            self._open().main.raw_insert(table, columns, blocks, settings=dict(settings), fmt=form)  # type: ignore[arg-type] # the driver streams any iterable

    def server_version(self) -> str:
        """Version of the engine."""
        with self._errors():
            return str(self._open().main.server_version)

    def check_free(self) -> None:
        """Raise :class:`StoreHeldError` if another process holds the chDB folder. Opens nothing."""
        if self.target.embedded and (holder := other_holder(Path(str(self.target.path)))) is not None:
            raise _held(self.target, holder)

    def check_room(self) -> None:
        """Raise :class:`StoreUnavailableError` if the chDB folder's disk is too full to change the schema.

        What it cannot write chDB leaves empty, without an error, and cannot open the folder ever after.
        """
        folder = Path(str(self.target.path))
        if not self.target.embedded or str(folder) == MEMORY:
            return
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if (free := disk_usage(existing).free) < _ROOM_BYTES:
            raise StoreUnavailableError(
                f"{self.target.shown}: no room on its disk: {free / 1e6:.0f} MB free, {_ROOM_BYTES / 1e6:.0f} MB needed"
            )

    def close(self) -> None:
        """Close what is open. In a forked child the engine is left alone: closing it would hang."""
        with self._lock:
            handles, self._handles = self._handles, None
        if handles is None or handles.process != os.getpid():
            return
        for client in filter(None, (handles.readonly, handles.main)):
            client.close()

    def end(self) -> None:
        """Close for good: what comes later is refused. Waits for the statement that chDB is at, 30 seconds at most.

        A process that ends while chDB works crashes, or never ends.
        """
        self._ended = True
        until = time.monotonic() + _LAST_STATEMENT_SECONDS
        while self.target.embedded and self._statements:
            if (left := until - time.monotonic()) <= 0:
                return
            self._idle.wait_in_host(left)
        self.close()

    def _no_statements(self) -> None:
        self._statements = 0
        self._counting = new_lock()
        self._idle = Bell()

    def _count(self, statements: int) -> None:
        with self._counting:
            self._statements += statements

    def _open(self) -> _Handles:
        with self._lock:
            self._check_process()
            if self._handles is None:
                self._handles = _Handles(os.getpid(), self._connect())
            return self._handles

    def _open_readonly(self) -> Client:
        handles = self._open()
        with self._lock:
            if handles.readonly is None:
                handles.readonly = self._connect()
                # 2 and not 1: the driver itself sets output settings. 1 stands on users who are that restricted.
                if str(handles.readonly.command("SELECT getSetting('readonly')")) == "0":
                    handles.readonly.set_client_setting("readonly", "2")
            return handles.readonly

    def _check_process(self) -> None:
        if self._handles is not None and self._handles.process != os.getpid() and not self.target.embedded:
            # Sockets that came with the fork belong to the parent.
            self._handles = None
        if self.target.embedded and (_engine_lost or (self._handles and self._handles.process != os.getpid())):
            raise ForkedStoreError(
                f"{self.target.shown}: this process was forked from one that uses chDB, which hangs in a forked child. "
                "Start workers with spawn instead of fork, or configure the store after the fork, or use a server."
            )

    def _connect(self) -> Client:
        connect = self._connect_embedded if self.target.embedded else self._connect_server
        client = connect()
        client.database = self.target.database
        return client

    def _connect_server(self) -> Client:
        target = self.target
        return create_client(
            host=target.host,
            port=target.port or 0,
            username=target.user,
            password=target.password,
            interface=target.interface,
            settings=dict(target.settings),
            connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            # The driver's own is for all clients of the process; a socket of gevent belongs to the thread that opened it.
            dedicated_pool=True,
            # Sessions would serialise threads; the default id is per client.
            autogenerate_session_id=False,
            tz_mode="aware",
        )

    def _connect_embedded(self) -> Client:
        self.check_free()
        path = str(self.target.path)
        if path != MEMORY:
            Path(path).mkdir(parents=True, exist_ok=True)
            _check_writable(Path(path))
        try:
            with kept_handlers():
                return create_client(interface="chdb", path=path, tz_mode="aware")
        except ImportError as error:
            raise StoreError(
                f"{self.target.shown} needs chDB, which is not installed: pip install 'otel-sessions[local]'"
            ) from error

    @contextmanager
    def _errors(self) -> Iterator[None]:
        _ours.calling = getattr(_ours, "calling", 0) + 1
        self._count(1)
        try:
            if self._ended:
                raise StoreUnavailableError(f"{self.target.shown}: closed, since the program ends")
            yield
        except ClickHouseError as error:
            raise _translated(self.target, error) from error
        except OSError as error:
            raise StoreUnavailableError(f"{self.target.shown}: {error}") from error
        finally:
            _ours.calling -= 1
            self._count(-1)
            self._idle.ring()


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _check_writable(folder: Path) -> None:
    """Before the engine is opened, which says it on the host's stderr at each attempt. Raises :class:`OSError`."""
    status = folder / "status"
    for path in (folder, status):
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "no right to write here, or the disk is read-only", str(path))


def _abandon(client: Client) -> None:
    """Keep chDB's handle from being closed in this forked child, ever: closing hangs, even when the child exits."""
    backend: Any = getattr(client, "_backend", None)
    finalizer = getattr(backend, "_release", None)
    if finalizer is not None:
        finalizer.detach()
    handle = getattr(getattr(backend, "_handle", None), "conn", None)
    for held in (client, backend, handle):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))


def _read(result: QueryResult) -> QueryResult:
    # The driver reads rows when they are asked for; an answer that breaks off must fail while errors are translated.
    result.result_rows  # noqa: B018 - a property that reads
    return result


def _translated(target: Target, error: ClickHouseError) -> StoreError:
    code = error.code if isinstance(error, Error) else None
    text = _unreachable(error) or _first_line(str(error))
    if "Unable to open the chdb engine" in str(error):
        return _unopened(target, text)
    if code in _MISSING_CODES:
        return SchemaError(
            f"{target.shown}: {text} If a table is missing: otel-sessions migrate --store {target.shown}"
        )
    if code in _READONLY_CODES:
        return StoreError(f"{target.shown}: only reading is allowed here. {text}")
    # What the system refused the engine, files, threads, disk, is no fault of what was sent.
    refused = any(word in text for word in _SYSTEM_ERRORS)
    if refused or code in _PASSING_CODES or (code is None and isinstance(error, OperationalError)):
        return StoreUnavailableError(f"{target.shown}: {text}")
    return StoreError(f"{target.shown}: {text}")


def _unopened(target: Target, text: str) -> StoreUnavailableError:
    if "already" in text and "path" in text:
        return StoreUnavailableError(
            f"{target.shown}: this process already uses another chDB path, and chDB allows one per process. {text}"
        )
    if (holder := other_holder(Path(str(target.path)))) is not None:
        return _held(target, holder)
    return StoreUnavailableError(f"{target.shown}: {text} The engine says why on stderr.")


def _held(target: Target, holder: int) -> StoreHeldError:
    who = f"another process ({holder})" if holder != UNKNOWN else "another process"
    return StoreHeldError(
        f"{target.shown}: {who} holds this chDB folder; only one process can. "
        "Stop it, or use a ClickHouse server (http://…), which many can share."
    )


def _unreachable(error: BaseException) -> str:
    """What the operating system said of the connection, without what HTTP client and driver put around it."""
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and cause.strerror):
        cause = cause.__cause__
    return f"no connection: {cause.strerror}" if isinstance(cause, OSError) else ""


def _first_line(message: str) -> str:
    """What the engine said, without what the driver puts around it."""
    said = re.sub(
        r"^Received ClickHouse exception, code: \d+, server response: | \(for url .*?\)$", "", message.strip()
    )
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[0][:600] if lines else "the engine gave no reason"
