"""Rows: what a span holds comes out of otel_traces as the Collector would have written it."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_store import memory_store
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState
from recorded_spans import SECOND, START, context, span

from otel_sessions.base.group import grouped
from otel_sessions.store import Store, rows


class Named(str, Enum):  # noqa: UP042 - what programs have: StrEnum would be text for everybody
    """A text of a class of its own, whose ``str()`` is `Named.FIRST`."""

    FIRST = "first"


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with memory_store() as opened:
        yield opened


def stored(store: Store, *spans: ReadableSpan) -> list[dict[str, Any]]:
    """The rows of these spans, by span id."""
    token = uuid.uuid4().hex
    trace = int(token, 16)
    for each in spans:
        each._context = SpanContext(trace, each.context.span_id, is_remote=False)
    assert store.insert(spans, token) == len(spans)
    table = store.reader().query(f"SELECT * FROM otel_traces WHERE TraceId = '{token}' ORDER BY SpanId")
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def attributes_of(store: Store, attributes: Mapping[str, Any]) -> dict[str, str]:
    [row] = stored(store, span(1, attributes))
    return dict(row["SpanAttributes"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        ("naïve ☃ 𝄞 \x00 '\\\n", "naïve ☃ 𝄞 \x00 '\\\n"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-7, "-7"),
        (2**63 - 1, "9223372036854775807"),
        (10**40, "1" + "0" * 40),
        (-(10**40), "-1" + "0" * 40),
        (1.0, "1"),
        (0.1, "0.1"),
        (-2.5, "-2.5"),
        (1e-7, "1e-7"),
        (0.00001, "0.00001"),
        (1e20, "100000000000000000000"),
        (1.5e21, "1.5e+21"),
        (Named.FIRST, "first"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (None, ""),
        (b"\x00\xff", "AP8="),
        (("stop",), '["stop"]'),
        ((), "[]"),
        ((1, 2.0, "x", True, None), '[1,2,"x",true,null]'),
        ({"a": {"b": [1, "é"]}, "n": None}, '{"a":{"b":[1,"é"]},"n":null}'),
        ([[1], [2.5, [b"\x00"]]], '[[1],[2.5,["AA=="]]]'),
        ({"big": 10**30, "nan": math.nan}, '{"big":1' + "0" * 30 + ',"nan":null}'),
    ],
)
def test_an_attribute_value_becomes_the_text_that_the_collector_writes(store: Store, value: object, text: str) -> None:
    """Every type that the SDK accepts, beside one that needs no conversion."""
    assert attributes_of(store, {"key": value, "other": "text"}) == {"key": text, "other": "text"}


def test_numbers_of_many_spans_come_out_as_each_alone(store: Store) -> None:
    """Whole columns of numbers, with some among them that JSON writes differently or not at all."""
    floats = {0.25: "0.25", 3.0: "3", 2e-8: "2e-8", math.nan: "NaN", -0.0: "-0", 1e22: "1e+22", 7e-5: "0.00007"}
    integers = (1, -1, 2**64, 10**30, 0, 5, -(2**63))
    pairs = zip(floats, integers, strict=True)
    rows_of = stored(store, *(span(at, {"f": value, "i": number}) for at, (value, number) in enumerate(pairs, 1)))
    found = [row["SpanAttributes"] for row in rows_of]
    assert found == [{"f": text, "i": str(n)} for text, n in zip(floats.values(), integers, strict=True)]


def test_texts_of_many_spans_come_out_as_each_alone(store: Store) -> None:
    """Columns of texts that are short, long, equal, in other scripts, or of a class of their own."""
    lengths = (0, 1, 127, 128, 129, 16_383, 16_384)
    columns = {
        "short": [f"{length}" for length in lengths],
        "equal": ["päth"] * len(lengths),
        "long": ["x" * length for length in lengths],
        "other": ["é" * length for length in lengths],
        "broken": ["b\ud800" + "é" * length for length in lengths],
        "none": [""] * len(lengths),
        "named": [Named.FIRST] * len(lengths),
        "mixed": [Named.FIRST, 1, *["first"] * (len(lengths) - 2)],
    }
    rows_of = stored(
        store,
        *(
            span(at, dict(zip(columns, row, strict=True)))
            for at, row in enumerate(zip(*columns.values(), strict=True), 1)
        ),
    )
    written = columns | {
        "named": ["first"] * len(lengths),
        "mixed": ["first", "1", *["first"] * (len(lengths) - 2)],
        "broken": ["b\ufffd" + "é" * length for length in lengths],
    }
    assert [row["SpanAttributes"] for row in rows_of] == [
        dict(zip(written, row, strict=True)) for row in zip(*written.values(), strict=True)
    ]


def test_ids_of_a_batch_in_which_all_have_a_parent(store: Store) -> None:
    """Each id is its own, with its leading zeros."""
    found = stored(store, span(1, parent=2**64 - 1), span(2**63, parent=1))
    assert [(row["SpanId"], row["ParentSpanId"]) for row in found] == [
        (f"{1:016x}", "f" * 16),
        ("8" + "0" * 15, f"{1:016x}"),
    ]


def test_lone_surrogates_become_replacement_characters(store: Store) -> None:
    """Keys, values, nested values and names: the batch arrives, the rest of the text unchanged."""
    hostile = span(1, {"k\ud800": "v\udfff", "nested": ("\ud800",)}, name="n\ud800")
    [row, other] = stored(store, hostile, span(2, {"fine": "é"}))
    assert row["SpanAttributes"] == {"k\ufffd": "v\ufffd", "nested": '["\ufffd"]'}
    assert row["SpanName"] == "n\ufffd"
    assert other["SpanAttributes"] == {"fine": "é"}


def test_ids_kind_status_scope_and_resource_are_written_as_the_collector_does(store: Store) -> None:
    """Lower-case hex ids, empty without parent; Client, Error; service.name also as a column."""
    [child, root] = stored(
        store,
        span(0xAB, parent=0xCD, kind=SpanKind.CLIENT, status=Status(StatusCode.ERROR, "bad"), start=0.5, seconds=0.25),
        span(
            0xCD,
            resource=Resource({"service.name": "s", "n": 3}),
            scope=InstrumentationScope("lib", "2.0"),
            status=Status(StatusCode.OK),
        ),
    )
    assert (child["SpanId"], child["ParentSpanId"], root["ParentSpanId"]) == (f"{0xAB:016x}", f"{0xCD:016x}", "")
    assert (child["SpanKind"], child["StatusCode"], child["StatusMessage"]) == ("Client", "Error", "bad")
    assert (root["SpanKind"], root["StatusCode"], root["StatusMessage"]) == ("Internal", "Ok", "")
    assert (root["ServiceName"], root["ResourceAttributes"]) == ("s", {"service.name": "s", "n": "3"})
    assert (root["ScopeName"], root["ScopeVersion"]) == ("lib", "2.0")
    assert child["Duration"] == SECOND // 4


def test_events_and_links_keep_their_order_and_attributes(store: Store) -> None:
    """Nested columns hold each event and link; spans without any have empty arrays."""
    linked = SpanContext(0x1, 0x2, is_remote=True, trace_state=TraceState([("vendor", "1")]))
    events = [Event("first", {"n": 1}, START), Event("second", None, START + SECOND)]
    [full, empty] = stored(store, span(1, events=events, links=[Link(linked, {"why": ("x",)})]), span(2))
    assert full["Events.Name"] == ["first", "second"]
    assert full["Events.Attributes"] == [{"n": "1"}, {}]
    assert [int(moment.timestamp()) for moment in full["Events.Timestamp"]] == [START // SECOND, START // SECOND + 1]
    assert (full["Links.TraceId"], full["Links.SpanId"]) == ([f"{1:032x}"], [f"{2:016x}"])
    assert (full["Links.TraceState"], full["Links.Attributes"]) == (["vendor=1"], [{"why": '["x"]'}])
    assert empty["Events.Name"] == empty["Links.TraceId"] == []


def test_a_span_that_ends_before_it_starts_lasts_nothing(store: Store) -> None:
    """A clock that stepped back gives 0 and no 584 years."""
    [row] = stored(store, span(1, {"session.id": "clock", "gen_ai.operation.name": "chat"}, seconds=-5))
    assert row["Duration"] == 0
    assert store.reader().session("clock").wall_seconds == 0


def test_a_duration_that_wrapped_around_in_a_collector_counts_as_none(store: Store) -> None:
    """The Collector subtracts unsigned: -5 s arrives as 584 years and is read as 0."""
    store._connection.command(
        "INSERT INTO otel_traces (Timestamp, TraceId, SpanId, SpanAttributes, Duration) VALUES "
        "(now64(9), 'a', 'b', map('session.id', 'wrapped', 'gen_ai.operation.name', 'chat'), 18446744068709551616)"
    )
    session = store.reader().session("wrapped")
    assert (session.calls, session.wall_seconds, session.llm_seconds) == (1, 0.0, 0.0)
    assert store.reader().steps("wrapped")[0].wall_seconds == 0


def test_spans_of_the_sdk_itself_arrive(store: Store) -> None:
    """What a tracer provider hands over: bounded attributes, exception events, links added later."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "sdk"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("lib", "1.2")
    with suppress(ValueError), tracer.start_as_current_span("work") as active:
        active.set_attribute("session.id", "sdk")
        active.add_link(context(7), {"a": 1})
        raise ValueError("broken")
    [row] = stored(store, *memory.get_finished_spans())
    assert (row["StatusCode"], row["StatusMessage"]) == ("Error", "ValueError: broken")
    assert row["Events.Name"] == ["exception"]
    assert row["Links.SpanId"] == [f"{7:016x}"]
    assert (row["ServiceName"], row["ScopeName"], row["ScopeVersion"]) == ("sdk", "lib", "1.2")


VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.text(min_size=1, max_size=8), VALUE, max_size=6), min_size=1, max_size=12))
def test_whatever_a_span_holds_the_batch_arrives_whole(store: Store, batch: list[dict[str, Any]]) -> None:
    """Any mix of types in any batch: every span has its row, and every text its value."""
    got = stored(store, *(span(number, attributes) for number, attributes in enumerate(batch, 1)))
    assert len(got) == len(batch)
    for row, attributes in zip(got, batch, strict=True):
        for key, value in attributes.items():
            if isinstance(value, str) and key.isascii() and value.isascii():
                assert row["SpanAttributes"][key] == value
            if isinstance(value, (list, dict)) and key.isascii():
                assert json.loads(row["SpanAttributes"][key]) is not None


def test_encoding_names_the_columns_that_an_insert_fills() -> None:
    """The block starts with as many columns as COLUMNS names, and as many rows as spans."""
    block = rows.encode(grouped([span(1), span(2)]))
    assert (block[0], block[1]) == (len(rows.COLUMNS), 2)
