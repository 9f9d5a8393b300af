"""The schema: applied once, checked by hash, and documented column by column."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from recorded_spans import call

from otel_sessions.base.errors import SchemaError
from otel_sessions.store import CallRow, SessionRow, StepRow, Store, open_store
from otel_sessions.store.dsn import parse
from otel_sessions.store.migrate import _CREATE_RECORD, _RETAINED, rendered, schema_files, view_files

DOCS = Path(__file__).parent.parent / "docs" / "schema.md"
RECORDS = {"sessions": SessionRow, "session_steps": StepRow, "session_calls": CallRow}


@pytest.fixture
def empty() -> Iterator[Store]:
    with open_store(f"chdb://memory?database=t{uuid.uuid4().hex}") as store:
        yield store


def test_each_file_is_applied_once_in_order_and_reported_before(empty: Store) -> None:
    """migrate() names what it applies; a second run applies nothing and keeps the data."""
    names = tuple(file.name for file in schema_files())
    assert {state.state for state in empty.schema_state()} == {"pending"}
    reported: list[str] = []
    assert empty.migrate(report=reported.append) == names
    assert tuple(reported) == names == tuple(sorted(names))
    empty.insert([call()], "a")
    assert empty.migrate(report=reported.append) == ()
    assert empty.reader().session("s1").calls == 1


def test_an_applied_file_that_changed_is_refused_by_name(empty: Store) -> None:
    """The error names the file and both ways out; nothing is applied."""
    empty.migrate()
    empty._connection.command("ALTER TABLE otel_sessions_schema UPDATE hash = 'other' WHERE file LIKE '003%' SETTINGS mutations_sync = 1")  # fmt: skip
    with pytest.raises(SchemaError, match=r"003_llm_calls\.sql .*restore the package's file, or use a new database"):
        empty.migrate()
    assert [state.state for state in empty.schema_state() if state.file.startswith("003")] == ["changed"]


def test_a_database_newer_than_the_package_is_refused(empty: Store) -> None:
    """The error names the version that made it and the command that gets it."""
    empty.migrate()
    empty._connection.command(
        "INSERT INTO otel_sessions_schema (file, hash, package_version) VALUES ('900_future.sql', 'x', '9.0')"
    )
    with pytest.raises(SchemaError, match=r"900_future\.sql, applied by otel-sessions 9\.0.*pip install --upgrade"):
        empty.migrate()
    assert empty.schema_state()[-1].state == "newer"


def test_retention_is_set_changed_and_removed(empty: Store) -> None:
    """The TTL of every table follows the setting; 0 keeps all."""
    sql = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND create_table_query LIKE '%toIntervalDay({})%'"
    for days, tables in ((30, len(_RETAINED)), (30, len(_RETAINED)), (7, len(_RETAINED)), (0, 0)):
        empty.migrate(retention_days=days)
        assert empty.reader().query(sql.format(days or 7)).rows == [(tables,)]
    empty.insert([call()], "a")
    assert empty.reader().session("s1").calls == 1


def test_every_column_of_every_view_is_commented_and_in_the_docs(empty: Store) -> None:
    """Views, records and docs/schema.md name the same columns."""
    empty.migrate()
    documented = DOCS.read_text("utf-8")
    for file in view_files():
        view = file.name.removesuffix(".sql")
        columns = empty.reader().query(f"SELECT name, comment FROM system.columns WHERE database = currentDatabase() AND table = '{view}' ORDER BY position").rows  # fmt: skip
        assert all(comment for _, comment in columns), view
        section = documented.split(f"## {view}\n")[1].split("\n## ")[0]
        assert [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")] == [
            name for name, _ in columns
        ]
        if view in RECORDS:
            assert [name for name, _ in columns] == [field.name for field in fields(RECORDS[view])]


def test_no_file_needs_more_than_the_two_places_for_a_cluster() -> None:
    """Every CREATE has a place for ON CLUSTER, and every engine that keeps data one for Replicated."""
    for file in (*schema_files(), *view_files()):
        for statement in file.statements:
            if "CREATE" in statement:
                assert "/*on_cluster*/" in statement, file.name
            if "MergeTree" in statement:
                assert "ENGINE = /*replicated*/" in statement, file.name
                assert "ORDER BY" in statement, file.name


def test_the_engine_can_read_the_schema_of_a_cluster(empty: Store) -> None:
    """Each statement is made on every replica, each table that keeps data is replicated, and remembers its batches."""
    empty._connection.command(f"CREATE DATABASE {empty._target.database}", in_database=False)
    cluster = parse("http://localhost/otel?cluster=main&async_insert=0").cluster
    statements = [_CREATE_RECORD, *(each for file in (*schema_files(), *view_files()) for each in file.statements)]
    for statement in (each for each in statements if "CREATE" in each):
        text = rendered(statement, cluster)
        tree = str(empty._connection.query(f"EXPLAIN AST\n{text}").result_rows)
        assert "ON CLUSTER `main`" in text
        assert ("Replicated" in tree) == ("MergeTree" in statement)
        assert "non_replicated" not in text
        assert text.count("replicated_deduplication_window = 10000") == statement.count(
            "non_replicated_deduplication_window = 10000"
        )
        assert rendered(statement, "") == statement


def test_every_table_that_an_insert_fills_remembers_its_batches() -> None:
    """A batch that arrives twice counts once only if each target of a view knows the token."""
    statements = [statement for file in schema_files() for statement in file.statements]
    targets = {
        found[1] for statement in statements if (found := re.search(r"_mv /\*on_cluster\*/ TO (\w+)", statement))
    }
    assert "session_rollup" in targets
    for statement in statements:
        created = re.search(r"CREATE TABLE IF NOT EXISTS (\w+)", statement)
        if created and created[1] in {*targets, "otel_traces"} and "ENGINE = Null" not in statement:
            assert "non_replicated_deduplication_window = 10000" in statement, created[1]
