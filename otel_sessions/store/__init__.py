"""The store: everything that knows a column.

dsn         what a DSN says
holder      which other process holds a chDB folder
connection  one lazily opened connection to a ClickHouse server or to chDB, with our errors
migrate     applies schema/*.sql once, views/*.sql each time
pricing     rows of the price book
repricing   calls that are here, priced anew
arrivals    what writers of this process still have on the way here
rows        spans as a block of ``otel_traces``
native      columns as ClickHouse's Native format
doubt       whether an encoded block is there already
instants    times with all their digits
records     what a reader returns: one frozen dataclass per view
rebuilding  calls and rollups made anew from the raw spans, without duplicates
settling    which calls of other instrumentations count, once their trace is known
reader      queries/*.sql, one method each
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from opentelemetry.sdk.trace import ReadableSpan

from otel_sessions.base.group import SpanGroup, grouped
from otel_sessions.base.price import PriceRow
from otel_sessions.store import arrivals, doubt, rows
from otel_sessions.store.connection import UNCOMPILED, Connection
from otel_sessions.store.dsn import MEMORY, parse
from otel_sessions.store.migrate import FileState, migrate, schema_state
from otel_sessions.store.pricing import add_prices, replace_prices
from otel_sessions.store.reader import Reader
from otel_sessions.store.rebuilding import Rebuilt, look, rebuild
from otel_sessions.store.records import (
    AttributeRow,
    CallRow,
    Outcome,
    PriceChange,
    SessionRow,
    StepRow,
    Table,
    UnpricedRow,
)
from otel_sessions.store.repricing import Again, compare, reprice
from otel_sessions.store.settling import Settled, Settling

__all__ = [
    "Again", "AttributeRow", "CallRow", "FileState", "Outcome", "PriceChange", "Reader", "Rebuilt", "SessionRow", "Settled",
    "StepRow", "Store", "Table", "UnpricedRow", "open_store",
]  # fmt: skip

_INSERT_SETTINGS = {
    "async_insert": "0",
    # Carries the batch's token into the rollups; off by default before ClickHouse 26.
    "deduplicate_blocks_in_dependent_materialized_views": "1",
    # A span with a wild timestamp must not make the server refuse its whole batch.
    "throw_on_max_partitions_per_insert_block": "0",
    # The tables behind the views are filled side by side, while the host's process makes the next batch.
    "parallel_view_processing": "1",
    **UNCOMPILED,
}


def open_store(dsn: str) -> Store:
    """The store at ``dsn``; nothing is connected before the first use.

    ``http(s)://user:pass@host:port/db``, ``chdb:///path`` or ``chdb://memory`` (one engine, which all stores of
    the process share and which lasts while one of them is open).
    Raises :class:`SettingError` for any other form.
    """
    return Store(dsn)


class Store:
    """A ClickHouse database with our schema. Safe to use from several threads; a context manager.

    Every method raises :class:`StoreUnavailableError` where the same call may succeed later, and another
    :class:`StoreError` where it will not.
    """

    def __init__(self, dsn: str) -> None:
        self._target = parse(dsn)
        self._connection = Connection(self._target)
        self._settling = Settling(self._connection)

    def __repr__(self) -> str:
        return f"Store({self._target.shown!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def migrate(self, retention_days: int = 0, report: Callable[[str], object] | None = None) -> tuple[str, ...]:
        """Create or update the schema; return the names of the files applied now, none on a second run.

        ``report`` is called with each name before its file is applied. ``retention_days`` deletes what is older, 0
        keeps all. Raises :class:`SchemaError` if an applied file was changed or the database is newer than this
        package.
        """
        return migrate(self._connection, retention_days, report or (lambda _: None))

    def schema_state(self) -> list[FileState]:
        """Each schema file of this package or of the database, in order, and whether it is applied."""
        return schema_state(self._connection)

    def insert(self, spans: Sequence[ReadableSpan], token: str) -> int:
        """Write ``spans`` as one batch; return how many. The same batch under the same token counts once."""
        if not spans:
            return 0
        self.insert_encoded([rows.encode(grouped(spans))], token)
        return len(spans)

    @staticmethod
    def encode(groups: Sequence[SpanGroup]) -> bytes:
        """The spans of ``groups`` as :meth:`insert_encoded` takes them; the bytes may be kept and sent by another process."""
        return rows.encode(groups)

    def insert_encoded(self, blocks: Iterable[bytes], token: str) -> None:
        """Write what :meth:`encode` made as one batch. The same batch under the same token counts once."""
        settings = {**_INSERT_SETTINGS, "insert_deduplication_token": token}
        self._connection.insert("otel_traces", rows.COLUMNS, blocks, settings)
        self._settling.after_insert()

    def finish(self) -> None:
        """Settle what the last inserts brought, which are too close together to be settled each. Raises nothing.

        For the end of a flush: then also those who read with SQL alone, without this package, see each exchange once.
        """
        self._settling.after_last_insert()

    def expect(self, arrive: Callable[[], object]) -> None:
        """Readers of this process call the method ``arrive`` first, which waits until all has arrived here."""
        arrivals.expect(self._target, arrive)

    def holds(self, blocks: Iterable[bytes]) -> bool:
        """True if the spans of an encoded batch are in the store: for old doubts, when the token may be forgotten."""
        return doubt.holds(self._connection, blocks)

    def add_prices(self, rows: Sequence[PriceRow], version: int) -> int:
        """Put price rows into the book, except those of names that have some already; return how many.

        ``version`` says which of two rows under the same condition counts: the larger one.
        """
        return add_prices(self._connection, rows, version)

    def replace_prices(self, rows: Sequence[PriceRow], version: int) -> None:
        """Put price rows into the book instead of those that their names have there from the same origin.

        ``version`` must be larger than before: microseconds since 1970, say. Later calls are priced by them; what is
        in the store already stays as it is until :meth:`reprice`.
        """
        replace_prices(self._connection, rows, version)

    def compare_prices(self, again: Again) -> list[PriceChange]:
        """What the calls that ``again`` chooses cost, and what they would cost as it says; writes nothing."""
        return compare(self._connection, again)

    def reprice(self, again: Again, report: Callable[[str], object] | None = None, *, resume: bool = False) -> None:
        """Write into calls and rollups what the calls that ``again`` chooses cost by the price book as it is now.

        ``report`` is called with each month before it is done. Raises :class:`StoreUnavailableError` if another
        repricing is under way; ``resume`` finishes it first.
        """
        reprice(self._connection, again, report or (lambda _: None), resume=resume)

    def settle(self) -> Settled:
        """Decide which spans of other instrumentations count, and in which session; return what that changed.

        Inserts and readers of this package do it by themselves. For a store that only Collectors fill and that is read
        with SQL alone.
        """
        return self._settling.settle()

    def look_for_duplicates(self) -> Rebuilt:
        """How many spans are stored, how many of them more than once, and what counts now; writes nothing."""
        return look(self._connection)

    def rebuild(self, report: Callable[[str], object] | None = None, *, force: bool = False) -> Rebuilt:
        """Make calls and rollups anew from the raw spans, at the prices in the book, without spans stored twice.

        Spans may arrive meanwhile; for the moment of the swap they are refused with an error that senders retry.
        ``report`` is called with each day before it is done. Needs room for a second copy of everything. Raises
        :class:`StoreError` if raw spans are gone that calls were made of, unless ``force``.
        """
        return rebuild(self._connection, self._settling, report or (lambda _: None), force=force)

    def is_same(self, other: Store) -> bool:
        """Both are the same database, reached in the same way."""
        return self._target == other._target

    @property
    def in_memory(self) -> bool:
        """The database ends with this process."""
        return self._target.path == MEMORY

    def reader(self) -> Reader:
        """What the views say."""
        return Reader(self._connection, self._settling)

    def server_version(self) -> str:
        """Version of the ClickHouse server or of the engine in chDB."""
        return self._connection.server_version()

    def check_free(self) -> None:
        """Raise :class:`StoreHeldError` if another process holds the chDB folder. Opens nothing."""
        self._connection.check_free()

    def end(self) -> None:
        """Close for good, before the process ends; waits for the statement that an embedded engine is at."""
        self._connection.end()

    def close(self) -> None:
        """Close the connection; the store opens it again when it is used again."""
        self._connection.close()
