"""Connections: opened late, shared by threads, refused in forked children, and clear about what is in the way."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import textwrap
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from clickhouse_server import running
from recorded_spans import call

from otel_sessions.base.errors import StoreError, StoreUnavailableError
from otel_sessions.store import open_store
from otel_sessions.store.dsn import parse


def memory() -> str:
    return f"chdb://memory?database=t{uuid.uuid4().hex}"


def script(text: str, *arguments: str) -> str:
    """What a Python of its own prints; chDB allows one folder per process."""
    code = "import os, sys\nsys.path.insert(0, sys.argv[1])\nfrom recorded_spans import call\nfrom otel_sessions.store import open_store\n"
    command = [sys.executable, "-c", code + textwrap.dedent(text), str(Path(__file__).parent), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_two_stores_on_memory_see_the_same_data() -> None:
    """chdb://memory is one engine in the process, whoever opened it."""
    dsn = memory()
    with open_store(dsn) as one, open_store(dsn) as other:
        one.migrate()
        one.insert([call()], "a")
        assert other.reader().session("s1").calls == 1


def test_threads_share_a_store() -> None:
    """Concurrent inserts and reads all arrive, and none sees half a batch."""
    with open_store(memory()) as store, ThreadPoolExecutor(4) as pool:
        store.migrate()
        list(pool.map(lambda number: store.insert([call(number, path="/a")] * 2, f"t{number}"), range(1, 9)))
        calls = list(pool.map(lambda _: store.reader().session("s1").calls, range(4)))
    assert calls == [16] * 4


def test_a_folder_keeps_its_data_and_is_made_if_missing(tmp_path: Path) -> None:
    """What one process wrote the next one reads; times come back in UTC."""
    dsn = f"chdb://{tmp_path}/not/there yet"
    write = "store = open_store(sys.argv[2]); store.migrate(); store.insert([call(cost=0.5)], 'a'); store.close()"
    script(write, dsn)
    shown = script("row = open_store(sys.argv[2]).reader().session('s1'); print(row.cost_usd, row.started_at)", dsn)
    assert shown == f"0.500000000000 {datetime(2026, 1, 1, tzinfo=UTC)}"


def test_a_folder_that_another_process_holds_is_passing(tmp_path: Path) -> None:
    """StoreUnavailableError, which says who holds it and what else there is."""
    with running(tmp_path / "data"):
        shown = script(
            """
            from otel_sessions.base.errors import StoreUnavailableError
            try:
                open_store(sys.argv[2]).server_version()
            except StoreUnavailableError as error:
                print(error)
            """,
            f"chdb://{tmp_path}/data",
        )
    assert re.search(r"another process \(\d+\) holds this chDB folder", shown)


def test_a_held_folder_is_found_before_the_engine_is_asked(tmp_path: Path) -> None:
    """The engine would write its own words to the host's stderr; nothing is written, and nothing opened."""
    with running(tmp_path / "data"):
        program = """
import sys
from otel_sessions.base.errors import StoreHeldError
from otel_sessions.store import open_store
store = open_store(sys.argv[1])
for use in (store.check_free, store.server_version):
    try:
        use()
    except StoreHeldError as error:
        print(error)
print("chdb" in sys.modules)
"""
        command = [sys.executable, "-c", program, f"chdb://{tmp_path}/data"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    first, second, opened = done.stdout.splitlines()
    assert first == second
    assert opened == "False"
    assert done.stderr == ""


def test_a_folder_that_this_process_holds_is_free(tmp_path: Path) -> None:
    """Two stores of one process share the engine; a folder that nobody has opened yet is free, too."""
    script(
        """
        first, second = open_store(sys.argv[2]), open_store(sys.argv[2])
        first.check_free()
        first.server_version()
        second.check_free()
        second.server_version()
        """,
        f"chdb://{tmp_path}/data",
    )


def test_a_second_folder_in_one_process_is_refused_clearly(tmp_path: Path) -> None:
    """One path per process is all that chDB knows; the error says so."""
    shown = script(
        """
        first = open_store("chdb://memory"); first.server_version()
        try:
            open_store(sys.argv[2]).server_version()
        except Exception as error:
            print(type(error).__name__, error)
        """,
        f"chdb://{tmp_path}/data",
    )
    assert shown.startswith("StoreUnavailableError")
    assert "one per process" in shown


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork on this platform")
def test_a_forked_child_is_refused_and_the_parent_goes_on() -> None:
    """The engine hangs in a forked child: every use raises at once, close() returns, the parent is unharmed."""
    shown = script(
        """
        store = open_store("chdb://memory"); store.migrate(); store.reader().query("SELECT 1")
        child = os.fork()
        if not child:
            for use in (store.server_version, open_store("chdb://memory").server_version):
                try:
                    use()
                except Exception as error:
                    print(type(error).__name__, flush=True)
            store.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        store.insert([call()], "a")
        print(store.reader().session("s1").calls)
        """
    )
    assert shown.split() == ["ForkedStoreError", "ForkedStoreError", "1"]


def test_a_server_that_cannot_be_reached_is_passing() -> None:
    """The error names the address without the password, and what the operating system said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(StoreUnavailableError) as caught:
        open_store(f"http://u:secret@127.0.0.1:{port}/db").server_version()
    assert str(caught.value) == f"http://u:***@127.0.0.1:{port}/db: no connection: Connection refused"


def test_a_store_opens_again_after_close() -> None:
    """close() gives the connection back and the next use takes a new one; memory lasts while any store is open."""
    dsn = memory()
    store = open_store(dsn)
    store.migrate()
    with open_store(dsn) as other:
        other.server_version()
        store.close()
        assert store.migrate() == ()
        store.close()


def test_a_query_that_is_wrong_is_an_error_of_one_line() -> None:
    """The engine's message without what surrounds it; an empty query says what to try."""
    with open_store(memory()) as store:
        store.migrate()
        with pytest.raises(StoreError, match="Syntax error") as caught:
            store.reader().query("SELEC 1")
        assert "\n" not in str(caught.value)
        with pytest.raises(StoreError, match="SELECT"):
            store.reader().query(" ; ")


def test_a_result_has_columns_types_and_at_most_limit_rows() -> None:
    """Also a result without rows has its columns."""
    with open_store(memory()) as store:
        store.migrate()
        table = store.reader().query("SELECT number AS n, 'x' AS s FROM numbers(5);", limit=2)
        assert (table.columns, table.types, table.rows) == (("n", "s"), ("UInt64", "String"), [(0, "x"), (1, "x")])
        empty = store.reader().query("SELECT number AS n FROM numbers(0)")
        assert (empty.columns, empty.types, empty.rows) == (("n",), ("UInt64",), [])


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("chdb://memory", (":memory:", "otel", "", None)),
        ("chdb:///var/lib/x%20y?database=z", ("/var/lib/x y", "z", "", None)),
        ("http://localhost", (None, "otel", "localhost", None)),
        ("https://u:p%40ss@ch.example.com:8443/db", (None, "db", "ch.example.com", 8443)),
    ],
)
def test_a_dsn_names_engine_and_database(dsn: str, expected: tuple[object, ...]) -> None:
    """Escapes are undone; the database is otel unless the DSN names one; a password is never shown."""
    target = parse(dsn)
    assert (target.path, target.database, target.host, target.port) == expected
    assert "p@ss" not in repr(target)
