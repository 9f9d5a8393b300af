"""What a store's DSN says."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from otel_sessions.base.errors import SettingError
from otel_sessions.base.settings import masked

DEFAULT_DATABASE = "otel"
MEMORY = ":memory:"


@dataclass(frozen=True, slots=True)
class Target:
    """Where the database is.

    ``path`` is a folder or ``:memory:`` for chDB and None for a server. ``shown`` is the DSN without its password.
    ``cluster`` is where ``migrate`` makes the tables, replicated; empty for a single server.
    """

    shown: str
    database: str
    path: str | None = None
    interface: str = "http"
    host: str = ""
    port: int | None = None
    user: str | None = None
    password: str = field(default="", repr=False)
    cluster: str = ""
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def embedded(self) -> bool:
        """The database is a chDB engine in this process."""
        return self.path is not None


def parse(dsn: str) -> Target:
    """``dsn`` in parts; parameters after ``?`` are ClickHouse settings, except ``database`` for chDB and ``cluster``."""
    try:
        return _parse(dsn)
    except ValueError as error:
        if isinstance(error, SettingError):
            raise
        raise _refused(dsn) from error


def _parse(dsn: str) -> Target:
    parts = urlsplit(dsn)
    options = dict(parse_qsl(parts.query))
    if parts.scheme == "chdb":
        path = _chdb_path(dsn, unquote(parts.netloc), unquote(parts.path))
        return Target(masked(dsn), options.pop("database", DEFAULT_DATABASE), path=path)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _refused(dsn)
    return Target(
        masked(dsn),
        unquote(parts.path.strip("/")) or DEFAULT_DATABASE,
        interface=parts.scheme,
        host=parts.hostname,
        port=parts.port,
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password or ""),
        cluster=options.pop("cluster", ""),
        settings=tuple(options.items()),
    )


def _chdb_path(dsn: str, host: str, path: str) -> str:
    if host == "memory" and path in {"", "/"}:
        return MEMORY
    if host or path in {"", "/"}:
        raise _refused(dsn)
    return path


def _refused(dsn: str) -> SettingError:
    return SettingError(
        "store",
        masked(dsn),
        "http(s)://user:pass@host:port/db, chdb:///path or chdb://memory",
        "A chDB path is absolute: chdb:///home/me/store.",
    )
