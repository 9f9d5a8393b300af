"""Batches on disk: they outlive the process, and every process of the machine shares them.

A batch is sent by its owner, the process that made it. When an owner has ended, the next process that looks takes
its batches over. What is on disk is never dropped to make room: when there is none, newer batches are refused.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import lz4.frame

from otel_sessions.base.errors import SpoolError
from otel_sessions.delivery.batch import Batch, Limits
from otel_sessions.delivery.database import Database
from otel_sessions.delivery.owners import Owner, start_time, this_machine

_MAX_REVIVALS = 3

_PUT = """INSERT INTO batches (token, spans, size, bytes, created, maker, owner, attempts, attempted_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_NEXT = """SELECT id, token, spans, size, maker, adopted, attempts, attempted_at FROM batches
    WHERE owner = ? ORDER BY adopted, attempts, id LIMIT 1"""
_ALIKE = """SELECT id, spans, size, bytes FROM batches
    WHERE owner = ? AND adopted = ? AND attempts = 0 AND id != ? ORDER BY id"""
_BODY = """SELECT body FROM bodies JOIN pieces USING (id) WHERE batch = ? ORDER BY id"""
_BURY = """INSERT INTO dead SELECT id, token, spans, size, bytes, created, maker, ?, revivals, ?, ?
    FROM batches WHERE token = ?"""
_DELETE_BODY = """DELETE FROM bodies WHERE id IN (SELECT id FROM pieces WHERE batch = ?)"""
_DELETE_PIECES = """DELETE FROM pieces WHERE batch = ?"""
_RAISE = """INSERT INTO batches
    (id, token, spans, size, bytes, created, maker, owner, adopted, attempts, attempted_at, revivals)
    SELECT id, token, spans, size, bytes, created, maker, ?, maker != ?, 1, died, revivals + 1 FROM dead WHERE id = ?"""
_REVIVABLE = """SELECT id, spans, maker = ? FROM dead WHERE revivable AND revivals < ?
    AND (maker = ? OR maker NOT IN (SELECT id FROM owners))"""
_DEAD = """SELECT id, token, spans, bytes, created, died, reason FROM dead ORDER BY id"""


@dataclass(frozen=True, slots=True)
class SpoolPlace:
    """Where a spool lies, its bound in bytes, and the store that it is for, without password."""

    path: Path
    max_bytes: int
    store: str = ""


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """What a spool holds now. ``orphaned`` spans belong to no running process. Times are UTC."""

    path: str
    store: str
    bytes_used: int
    max_bytes: int
    batches: int
    spans: int
    orphaned_spans: int
    oldest: datetime | None
    last_error: str
    processes: int
    dead_batches: int
    dead_spans: int


@dataclass(frozen=True, slots=True)
class DeadBatch:
    """A batch that the store refused for good, and why."""

    id: int
    token: str
    spans: int
    bytes: int
    created: datetime
    died: datetime
    reason: str


def spool_place(folder: Path, dsn: str, max_bytes: int, shown: str = "") -> SpoolPlace:
    """The spool of the store ``dsn`` in ``folder``; user, password and options make no difference to the file."""
    parts = urlsplit(dsn)
    path = os.path.realpath(parts.path) if parts.scheme == "chdb" else parts.path.rstrip("/")
    identity = f"{parts.scheme}://{parts.hostname}:{parts.port}{path}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    host = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in parts.hostname or parts.scheme)
    return SpoolPlace(folder / f"{host[:64]}-{digest}.sqlite3", max_bytes, shown)


class Spool:
    """The batches of one store on disk, as one process sees them. Every method raises :class:`SpoolError`."""

    def __init__(self, place: SpoolPlace) -> None:
        self._place = place
        self._database = Database(place.path, place.max_bytes, place.store)
        self._owner = 0

    def put(self, batch: Batch, enter: Callable[[], None] = lambda: None) -> None:
        """Keep a batch; it belongs to this process. ``enter`` is called before anyone can take it out."""
        packed = [lz4.frame.compress(piece) for piece in batch.body]
        with self._database.change() as connection:
            owner = self._owner or self._register()
            sizes = batch.size, sum(map(len, packed))
            doubt = batch.attempts, batch.attempted_at
            values = (batch.token, batch.spans, *sizes, time.time(), owner, owner, *doubt)
            row = connection.execute(_PUT, values).lastrowid
            for piece in packed:
                made = connection.execute("INSERT INTO bodies (body) VALUES (?)", (piece,)).lastrowid
                connection.execute("INSERT INTO pieces VALUES (?, ?)", (made, row))
            enter()
        self._owner = owner

    def next(self, most: Limits | None = None) -> Batch | None:
        """The batch that this process sends next: its own first, the least tried first; None if none waits.

        Batches that were never tried are joined to one within ``most``, under the token of the first: after an
        outage many short ones wait, and an insert costs the store about the same whatever its length.
        """
        with self._database.use() as connection:
            found = connection.execute(_NEXT, (self._owner,)).fetchone() if self._owner else None
            if found is None:
                return None
            row, token, spans, size, maker, adopted, attempts, attempted_at = found
            if most is not None and not attempts and spans < most.batch_size:
                with suppress(SpoolError):
                    spans, size = self._join(row, adopted, most) or (spans, size)
            packed = [piece for (piece,) in connection.execute(_BODY, (row,))]
        if not packed:
            return None  # who took this process for dead has just sent it
        return Batch(token, spans, _Packed(packed), size, True, maker == self._owner, attempts, attempted_at)

    def _join(self, first: int, adopted: int, most: Limits) -> tuple[int, int] | None:
        """Put what follows ``first`` into it, as far as ``most`` allows; return its spans and size then, None if it is gone."""
        with self._database.change() as connection:
            of_first = "SELECT spans, size, bytes FROM batches WHERE id = ? AND owner = ?"
            found = connection.execute(of_first, (first, self._owner)).fetchone()
            if found is None:
                return None
            (spans, size, packed), joined = found, []
            for row, more_spans, more, more_packed in connection.execute(_ALIKE, (self._owner, adopted, first)):
                if spans + more_spans > most.batch_size or size + more > most.batch_bytes:
                    break
                spans, size, packed = spans + more_spans, size + more, packed + more_packed
                joined.append(row)
            if joined:
                connection.executemany("UPDATE pieces SET batch = ? WHERE batch = ?", [(first, row) for row in joined])
                connection.executemany("DELETE FROM batches WHERE id = ?", [(row,) for row in joined])
                grown = "UPDATE batches SET spans = ?, size = ?, bytes = ? WHERE id = ?"
                connection.execute(grown, (spans, size, packed, first))
        return spans, size

    def attempted(self, batch: Batch) -> None:
        """Note, before it is sent, that ``batch`` may have reached the store."""
        with self._database.use() as connection:
            values = (batch.attempts, batch.attempted_at, batch.token)
            connection.execute("UPDATE batches SET attempts = ?, attempted_at = ? WHERE token = ?", values)

    def failed(self, batch: Batch, error: str) -> None:
        """Note why the last attempt failed."""
        with self._database.use() as connection:
            connection.execute("UPDATE batches SET error = ? WHERE token = ?", (error, batch.token))

    def delete(self, batch: Batch) -> None:
        """Forget a batch that the store has."""
        with self._database.change() as connection:
            found = connection.execute("SELECT id FROM batches WHERE token = ?", (batch.token,)).fetchone()
            if found is not None:
                _delete_body(connection, found[0])
                connection.execute("DELETE FROM batches WHERE id = ?", found)

    def bury(self, batch: Batch, reason: str, *, revivable: bool) -> None:
        """Lay a batch that the store refused among the dead."""
        with self._database.change() as connection:
            connection.execute(_BURY, (revivable, time.time(), reason, batch.token))
            connection.execute("DELETE FROM batches WHERE token = ?", (batch.token,))

    def revive(self) -> int:
        """Send again, a few times at most, what died by a fault of the store; return how many spans of ours."""
        with self._database.use() as connection:
            found = connection.execute(_REVIVABLE, (self._owner, _MAX_REVIVALS, self._owner)).fetchall()
        if not found:
            return 0
        with self._database.change() as connection:
            for row, _, _ in found:
                self._raise(row, self._owner)
        return sum(spans for _, spans, own in found if own)

    def adopt(self) -> int:
        """Take over the batches of processes that have ended; return how many spans."""
        with self._database.use() as connection:
            gone = self._gone()
            orphans = f"owner IN ({', '.join(map(str, (0, *gone)))})"
            (spans,) = connection.execute(f"SELECT total(spans) FROM batches WHERE {orphans}").fetchone()  # noqa: S608
        if not spans and not gone:
            return 0
        with self._database.change() as connection:
            owner = self._owner or self._register()
            connection.execute(f"UPDATE batches SET owner = {owner}, adopted = 1 WHERE {orphans}")  # noqa: S608
            connection.executemany("DELETE FROM owners WHERE id = ?", [(one,) for one in gone])
        self._owner = owner
        return int(spans)

    def hand_over(self, untried: Batch, error: str) -> None:
        """Leave what waits to whichever process takes it; ``untried`` was in hand and did not leave this process."""
        with self._database.change() as connection:
            values = (untried.attempts, untried.attempted_at, error, untried.token)
            connection.execute("UPDATE batches SET attempts = ?, attempted_at = ?, error = ? WHERE token = ?", values)
            connection.execute("UPDATE batches SET owner = 0 WHERE owner = ?", (self._owner,))

    def left(self, account: Callable[[int, int], object]) -> None:
        """Tell ``account`` how many spans made by this process wait, with whomever, and how many are dead.

        It is called before this process can put or take anything more.
        """
        with self._database.use():
            account(self._made("batches"), self._made("dead"))

    def beat(self) -> bool:
        """Give a sign of life; True if others took this process for dead, and it took back what is left."""
        if not self._owner:
            return False
        with self._database.change() as connection:
            known = connection.execute("UPDATE owners SET seen = ? WHERE id = ?", (time.time(), self._owner)).rowcount
            if not known:
                self._register(self._owner)
                connection.execute("UPDATE batches SET owner = maker, adopted = 0 WHERE maker = ?", (self._owner,))
            return not known

    def release(self) -> None:
        """The process ends: what is left belongs to nobody, and the file is closed."""
        if self._owner:
            with self._database.change() as connection:
                connection.execute("UPDATE batches SET owner = 0 WHERE owner = ?", (self._owner,))
                connection.execute("DELETE FROM owners WHERE id = ?", (self._owner,))
            self._owner = 0
        self._database.close()

    def is_empty(self) -> bool:
        """No batch waits, of whatever process. Does not create the file."""
        if not self._place.path.exists():
            return True
        with self._database.use() as connection:
            (waiting,) = connection.execute("SELECT EXISTS (SELECT 1 FROM batches)").fetchone()
        return not waiting

    def rest(self) -> None:
        """Nothing waits: give disk space back."""
        self._database.give_back()

    def forget(self) -> None:
        """The file is a new one, which does not know this process."""
        self._owner = 0

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        self._database.close()

    def status(self) -> SpoolStatus:
        """What the spool holds. Does not create the file."""
        place = self._place
        if not place.path.exists():
            return SpoolStatus(str(place.path), place.store, 0, place.max_bytes, 0, 0, 0, None, "", 0, 0, 0)
        with self._database.use() as connection:
            gone = ", ".join(map(str, (0, *self._gone())))
            batches, spans, orphaned, oldest = connection.execute(
                f"SELECT count(*), total(spans), total(spans * (owner IN ({gone}))), min(created) FROM batches"  # noqa: S608
            ).fetchone()
            error = connection.execute(
                "SELECT error FROM batches WHERE error != '' ORDER BY attempted_at DESC"
            ).fetchone()
            dead, dead_spans = connection.execute("SELECT count(*), total(spans) FROM dead").fetchone()
            (store,) = connection.execute("SELECT store FROM about").fetchone()
            processes = connection.execute(f"SELECT count(*) FROM owners WHERE id NOT IN ({gone})").fetchone()[0]  # noqa: S608
        return SpoolStatus(
            path=str(self._place.path),
            store=store,
            bytes_used=self._database.bytes_used(),
            max_bytes=self._place.max_bytes,
            batches=batches,
            spans=int(spans),
            orphaned_spans=int(orphaned),
            oldest=None if oldest is None else _time(oldest),
            last_error=error[0] if error else "",
            processes=processes,
            dead_batches=dead,
            dead_spans=int(dead_spans),
        )

    def dead(self) -> tuple[DeadBatch, ...]:
        """The batches that were refused for good, oldest first."""
        with self._database.use() as connection:
            rows = connection.execute(_DEAD).fetchall()
        return tuple(
            DeadBatch(row, token, spans, size, _time(created), _time(died), reason)
            for row, token, spans, size, created, died, reason in rows
        )

    def retry(self, batch: DeadBatch) -> None:
        """Send a dead batch again: it belongs to this process now."""
        with self._database.change() as connection:
            owner = self._owner or self._register()
            connection.execute("UPDATE dead SET revivals = 0 WHERE id = ?", (batch.id,))
            self._raise(batch.id, owner)
        self._owner = owner

    def drop(self, batch: DeadBatch) -> None:
        """Delete a dead batch for good."""
        with self._database.change() as connection:
            _delete_body(connection, batch.id)
            connection.execute("DELETE FROM dead WHERE id = ?", (batch.id,))

    def _register(self, known_as: int | None = None) -> int:
        pid = os.getpid()
        values = (known_as, this_machine(), pid, start_time(pid) or 0, time.time())
        with self._database.use() as connection:
            return connection.execute("INSERT INTO owners VALUES (?, ?, ?, ?, ?)", values).lastrowid or 0

    def _gone(self) -> list[int]:
        with self._database.use() as connection:
            rows = connection.execute("SELECT id, machine, pid, started, seen FROM owners").fetchall()
        now = time.time()
        return [owner.id for row in rows if (owner := Owner(*row)).id != self._owner and owner.is_gone(now)]

    def _raise(self, row: int, owner: int) -> None:
        with self._database.use() as connection:
            connection.execute(_RAISE, (owner, owner, row))
            connection.execute("DELETE FROM dead WHERE id = ?", (row,))

    def _made(self, table: str) -> int:
        with self._database.use() as connection:
            total = f"SELECT total(spans) FROM {table} WHERE maker = ?"  # noqa: S608 - one of two tables
            return int(connection.execute(total, (self._owner,)).fetchone()[0])


class _Packed(Iterable[bytes]):
    """A body from the disk: its pieces are unpacked when they are asked for, one at a time, so that it takes little memory."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return map(lz4.frame.decompress, self._pieces)


def _delete_body(connection: sqlite3.Connection, row: int) -> None:
    connection.execute(_DELETE_BODY, (row,))
    connection.execute(_DELETE_PIECES, (row,))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
