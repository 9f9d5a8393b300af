"""configure(), flush(), shutdown(), and the entry points of OpenTelemetry, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import otel_sessions

PRELUDE = """
import time, threading, http.server
import httpx2, openai
from opentelemetry import trace
import otel_sessions

seen = []
def answer(request):
    seen.append(dict(request.headers))
    return httpx2.Response(200, json={
        "id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-4o",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}})

client = openai.OpenAI(api_key="sk-test", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)))
def ask():
    return client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hello"}])
"""


def program(body: str, *arguments: str, launcher: tuple[str, ...] = (), **environment: str) -> str:
    """Standard output of ``body`` run after the prelude; the test fails if it exits with an error."""
    done = subprocess.run(
        [*launcher, sys.executable, "-c", PRELUDE + textwrap.dedent(body), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_public_names() -> None:
    """The package exports these names and no others."""
    assert sorted(otel_sessions.__all__) == sorted([
        "ClickHouseSpanExporter", "FlushResult", "OtelSessionsError", "Session", "SessionSpanProcessor", "configure",
        "current_session", "flush", "instrument", "session", "shutdown", "step", "uninstrument", "with_context",
    ])  # fmt: skip
    assert all(hasattr(otel_sessions, name) for name in otel_sessions.__all__)


def test_the_same_settings_again_change_nothing() -> None:
    """A second configure() with the same settings gives the same provider, and each call is still one span."""
    out = program("""
        first = otel_sessions.configure(store="chdb://memory")
        assert otel_sessions.configure(store="chdb://memory") is first is trace.get_tracer_provider()
        with otel_sessions.session("s1"): ask()
        print(otel_sessions.shutdown(30))
    """)
    assert "delivered=2, pending=0, dropped=0" in out  # the call and the session's own step


def test_other_settings_replace_the_first_ones(tmp_path: Path) -> None:
    """After a second configure() with another store spans go there; what was made before is in the first."""
    out = program(
        """
        import sys
        from otel_sessions.store import open_store
        first, second = (f"chdb://{sys.argv[1]}/{name}" for name in ("a", "b"))
        otel_sessions.configure(store=first)
        with otel_sessions.session("one"): ask()
        otel_sessions.configure(store=second)
        with otel_sessions.session("two"): ask()
        print(otel_sessions.shutdown(30))
        for dsn in (first, second):
            with open_store(dsn) as store:
                print([row.session_id for row in store.reader().sessions()])
        """,
        str(tmp_path),
    )
    assert "['one']\n['two']" in out


def test_joins_the_provider_that_is_installed() -> None:
    """With a tracer provider of the host's own, its processors see our spans too, and its resource stays."""
    out = program("""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        memory = InMemorySpanExporter()
        provider = TracerProvider(resource=Resource.create({"service.name": "theirs"}))
        provider.add_span_processor(SimpleSpanProcessor(memory))
        trace.set_tracer_provider(provider)
        assert otel_sessions.configure(store="none") is provider
        with otel_sessions.session("s1", name="n"): ask()
        otel_sessions.shutdown()
        print([(s.name, s.attributes["session.id"], s.resource.attributes["service.name"])
               for s in memory.get_finished_spans()])
    """)
    assert "[('chat gpt-4o', 's1', 'theirs'), ('n', 's1', 'theirs')]" in out


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("stor='x'", ["stor:", "'x'", "Did you mean 'store'?"]),
        ("store='mysql://x'", ["store:", "'mysql://x'", "chdb://memory"]),
        ("batch_size='many'", ["batch_size:", "'many'", "Set batch_size="]),
    ],
)
def test_wrong_settings_are_refused_at_start_up(settings: str, expected: list[str]) -> None:
    """configure() names the setting, the value and the way out, and leaves the process as it was."""
    out = program(f"""
        try:
            otel_sessions.configure({settings})
        except otel_sessions.OtelSessionsError as error:
            print(error)
        assert not hasattr(trace.get_tracer_provider(), "add_span_processor")
        ask()
    """)
    assert all(part in out for part in expected), out


def test_a_wrong_variable_is_named_as_the_variable() -> None:
    """A setting that came from the environment is reported under the variable's name."""
    out = program(
        """
        try:
            otel_sessions.configure()
        except otel_sessions.OtelSessionsError as error:
            print(error)
        """,
        OTEL_SESSIONS_QUEUE_SIZE="-3",
    )
    assert "OTEL_SESSIONS_QUEUE_SIZE: got '-3'" in out


def test_an_unreachable_store_neither_delays_nor_fails_calls_and_is_said_once() -> None:
    """Calls go through while nothing listens; one warning names the store without its password."""
    out = program("""
        import logging
        logging.basicConfig()
        otel_sessions.configure(store="http://user:secret@127.0.0.1:9/otel", batch_age_seconds=0.01)
        with otel_sessions.session("s1"):
            for _ in range(20):
                assert ask().choices[0].message.content == "hi"
        result = otel_sessions.flush(1.5)
        assert (result.delivered, result.pending, result.dropped) == (0, 21, 0), result
        print(otel_sessions.shutdown(0.1))
    """)
    assert out.count("cannot deliver to http://user:***@127.0.0.1:9/otel") == 1, out
    assert "secret" not in out
    assert "pending=21, dropped=0, pending_disk=21" in out


def test_without_a_spool_what_an_unreachable_store_did_not_get_is_dropped() -> None:
    """With spool=off nothing outlives the process, and the accounts and the log say so."""
    out = program("""
        import logging
        logging.basicConfig()
        otel_sessions.configure(store="http://127.0.0.1:9/otel", spool="off", batch_age_seconds=0.01)
        with otel_sessions.session("s1"):
            ask()
        print(otel_sessions.shutdown(0.1))
    """)
    assert "pending=0, dropped=2" in out
    assert "of 2 spans for http://127.0.0.1:9/otel 2 were dropped: shutdown 2" in out


def test_other_services_get_the_session_and_llm_providers_never() -> None:
    """A call to a service of the host's carries traceparent and baggage; a call to a provider neither."""
    out = program("""
        got = {}
        class Service(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                got.update(self.headers.items())
                self.send_response(204); self.end_headers()
            def log_message(self, *_): pass
        server = http.server.HTTPServer(("127.0.0.1", 0), Service)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        otel_sessions.configure(store="chdb://memory")
        with otel_sessions.session("s1", path="/a"), otel_sessions.step("b"):
            httpx2.get(f"http://127.0.0.1:{server.server_port}/work")
            ask()
        assert "session.id=s1" in got["baggage"] and "session.path=%2Fa%2Fb" in got["baggage"], got
        assert got["traceparent"].split("-")[1] == format(otel_sessions.base.paths.session_trace_id("s1"), "032x")
        assert not {"traceparent", "tracestate", "baggage"} & seen[0].keys(), seen
        result = otel_sessions.shutdown(30)
        print(result)
    """)
    assert "delivered=5" in out  # the HTTP call, the LLM call and the steps /, /a, /a/b


def test_works_without_code_through_opentelemetry_instrument(tmp_path: Path) -> None:
    """`opentelemetry-instrument` with the exporter's name records sessions tagged by headers alone."""
    launcher = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    store = f"chdb://{tmp_path / 'store'}"
    program(
        """
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hello"}],
                                       extra_headers={"Helicone-Session-Id": "s9", "Helicone-Session-Path": "/x/y"})
        """,
        launcher=(launcher,),
        OTEL_TRACES_EXPORTER="clickhouse_sessions",
        OTEL_SESSIONS_STORE=store,
    )
    out = program(
        """
        import sys
        from otel_sessions.store import open_store
        with open_store(sys.argv[1]) as store:
            print([(row.path, row.own_calls, row.calls) for row in store.reader().steps("s9")])
            print(store.reader().query("SELECT count() FROM otel_traces WHERE SpanKind = 'Internal' AND ScopeName = 'otel_sessions'").rows)
        """,
        store,
    )
    assert "[('/', 0, 1), ('/x', 0, 1), ('/x/y', 1, 1)]" in out
    assert "[(3,)]" in out


def test_another_distribution_may_configure_the_sdk(tmp_path: Path) -> None:
    """As opentelemetry-distro does where it is installed: sessions are recorded, and the provider learns nothing of them."""
    metadata = tmp_path / "other" / "other_distro-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other-distro\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[opentelemetry_configurator]\nother = opentelemetry.sdk._configuration:_OTelSDKConfigurator\n"
    )
    launcher = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    store = f"chdb://{tmp_path / 'store'}"
    out = program(
        """
        with otel_sessions.session("s1", path="/x"):
            client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hello"}],
                                           extra_headers={"OTel-Session-Property-Plan": "p"})
        print(sorted({"otel-session-property-plan", "traceparent", "baggage"} & seen[0].keys()))
        """,
        launcher=(launcher,),
        PYTHONPATH=str(tmp_path / "other"),
        OTEL_PYTHON_CONFIGURATOR="other",
        OTEL_TRACES_EXPORTER="clickhouse_sessions",
        OTEL_METRICS_EXPORTER="none",
        OTEL_SESSIONS_STORE=store,
    )
    assert "[]" in out
    found, _, spans = spans_in(store).rpartition("] ")
    assert found == "[('/', 1), ('/x', 1)"
    assert len(set(spans.split())) == 1


OWN = """
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        provider = TracerProvider()
        provider.add_span_processor(otel_sessions.SessionSpanProcessor())
        provider.add_span_processor(BatchSpanProcessor(otel_sessions.ClickHouseSpanExporter()))
        trace.set_tracer_provider(provider)
        otel_sessions.instrument()
        with otel_sessions.session("s1", path="/x"): ask()
"""


@pytest.mark.parametrize("parts", ["own", "launcher"])
def test_configure_beside_an_exporter_counts_once(tmp_path: Path, parts: str) -> None:
    """A program that has put the parts together itself, or has them from the launcher, and calls configure() too."""
    store = f"chdb://{tmp_path / 'store'}"
    own = parts == "own"
    before, after = (OWN, "otel_sessions.shutdown(30)") if own else ("", "")
    program(
        f"""
        {before}
        otel_sessions.configure()
        with otel_sessions.session("s1", path="/x"): ask()
        {after}
        """,
        launcher=() if own else (str(Path(sys.executable).with_name("opentelemetry-instrument")),),
        OTEL_TRACES_EXPORTER="clickhouse_sessions",
        OTEL_SESSIONS_STORE=store,
    )
    calls = 2 if own else 1
    found, _, spans = spans_in(store).rpartition("] ")
    assert found == f"[('/', {calls}), ('/x', {calls})"
    assert len(set(spans.split())) == 1


def spans_in(store: str) -> str:
    """Steps and their calls in session s1; spans in all, and different ones."""
    out = program(
        """
        import sys
        from otel_sessions.store import open_store
        with open_store(sys.argv[1]) as store:
            print([(row.path, row.calls) for row in store.reader().steps("s1")], end=" ")
            print(*store.reader().query("SELECT count(), uniqExact(SpanId) FROM otel_traces").rows[0])
        """,
        store,
    )
    return out.strip()


def test_what_ended_is_stored_when_the_program_just_ends(tmp_path: Path) -> None:
    """Without shutdown(), after inserts have begun, nothing is lost at the end of the program."""
    store = f"chdb://{tmp_path / 'store'}"
    program(
        """
        import sys
        otel_sessions.configure(store=sys.argv[1], batch_age_seconds=0.05)
        with otel_sessions.session("s1"):
            ask()
        assert otel_sessions.flush(30).pending == 0
        with otel_sessions.session("s2"):
            ask()
        """,
        store,
    )
    out = program(
        """
        import sys
        from otel_sessions.store import open_store
        with open_store(sys.argv[1]) as store:
            print(sorted(row.session_id for row in store.reader().sessions()))
        """,
        store,
    )
    assert "['s1', 's2']" in out


@pytest.mark.parametrize("end", ["shutdown", "uninstrument"])
def test_llm_providers_learn_nothing_after_the_end_either(end: str) -> None:
    """Once recording has ended, in the middle of the program or at its exit, no trace context or baggage goes to a provider."""
    out = program(f"""
        class Provider(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                seen.append({{name.lower() for name in self.headers}})
                self.send_response(204); self.end_headers()
            def log_message(self, *_): pass
        server = http.server.HTTPServer(("127.0.0.1", 0), Provider)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{{server.server_port}}"
        otel_sessions.configure(store="none", llm_hosts=host)
        def post(**headers):
            with otel_sessions.session("s1", user_id="alice"):
                httpx2.post(f"http://{{host}}/v1/chat/completions", json={{"model": "m", "messages": []}}, headers=headers)
        post()
        otel_sessions.{end}()
        post()
        otel_sessions.shutdown()
        otel_sessions.configure(store="none", llm_hosts=host)
        otel_sessions.shutdown()
        post(**{{"OTel-Session-User": "alice"}})
        assert len(seen) == 3
        print([sorted(name for name in names if name in {{"traceparent", "baggage"}} or "session" in name) for names in seen])
    """)
    assert "[[], [], []]" in out, out


def test_calls_of_threads_that_go_on_while_the_end_delivers_are_recorded() -> None:
    """A call that begins and ends while what was before is being stored, in a daemon thread, is delivered too."""
    out = program("""
        from otel_sessions.assembly import Store, StoreSender
        begun, called = threading.Event(), threading.Event()
        def slowly(self, blocks, token):
            begun.set()
            called.wait(10)
        StoreSender.send, Store.finish = slowly, lambda self: None
        def serve():
            begun.wait(10)
            with otel_sessions.session("s1", path="/late"): ask()
            called.set()
        otel_sessions.configure(store="http://127.0.0.1:9/otel", batch_age_seconds=30)
        threading.Thread(target=serve, daemon=True).start()
        with otel_sessions.session("s1", path="/first"): ask()
        print(otel_sessions.shutdown(20))
    """)
    assert "delivered=5, pending=0, dropped=0" in out, out  # two calls, their steps, and the session's


def test_opentelemetry_switched_off_records_nothing(tmp_path: Path) -> None:
    """OTEL_SDK_DISABLED keeps its meaning: calls go through, nothing is delivered, providers learn no session."""
    out = program(
        """
        import sys
        otel_sessions.configure(store=sys.argv[1])
        with otel_sessions.session("s1"), otel_sessions.step("x"):
            client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hello"}],
                                           extra_headers={"OTel-Session-Path": "/y"})
        assert "otel-session-path" not in seen[0]
        print(otel_sessions.flush(10))
        """,
        f"chdb://{tmp_path / 'store'}",
        OTEL_SDK_DISABLED="true",
    )
    assert "delivered=0, pending=0, dropped=0" in out
    assert not (tmp_path / "store").exists()


def test_headers_alone_bring_the_anthropic_sdk_into_the_session(tmp_path: Path) -> None:
    """The SDK's own span started before the headers were read: our call still lies in the session trace, and counts once."""
    out = program(
        """
        import sys, anthropic
        from otel_sessions.base.paths import session_trace_id
        from otel_sessions.store import open_store
        answer = {"id": "m1", "type": "message", "role": "assistant", "model": "claude-3-5-haiku-20241022",
                  "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn",
                  "usage": {"input_tokens": 10, "output_tokens": 3}}
        http = httpx2.Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(200, json=answer)))
        otel_sessions.configure(store=sys.argv[1])
        anthropic.Anthropic(api_key="k", http_client=http).messages.create(
            model="claude-3-5-haiku-20241022", max_tokens=5, messages=[{"role": "user", "content": "q"}],
            extra_headers={"OTel-Session-Id": "T", "OTel-Session-Path": "/a"})
        otel_sessions.shutdown(30)
        with open_store(sys.argv[1]) as store:
            [call] = store.reader().calls("T")
            assert call.trace_id == format(session_trace_id("T"), "032x"), call
            print(store.reader().query("SELECT session_id, superseded_by FROM suppressed_spans").rows == [("T", call.span_id)])
        """,
        f"chdb://{tmp_path / 'store'}",
    )
    assert out.startswith("True"), out


def test_keys_in_urls_are_not_recorded() -> None:
    """The HTTP spans of other requests lose the values of parameters that look like secrets, and keep the rest."""
    out = program("""
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        memory = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(memory))
        trace.set_tracer_provider(provider)
        otel_sessions.configure(store="none")
        try:
            httpx2.get("http://127.0.0.1:9/v1beta/models?key=AIzaSECRET&api_key=SECRET&page=2&X-Goog-Signature=SECRET&pwd=SECRET")
        except httpx2.HTTPError:
            pass
        [span] = memory.get_finished_spans()
        print(dict(span.attributes))
    """)
    assert "SECRET" not in out
    assert "page=2" in out
