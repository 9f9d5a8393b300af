"""The seam in the clients: which requests pass it, what leaves, and how an exchange ends."""

from __future__ import annotations

import asyncio
import functools
import gc
import gzip
import json
import os
import socket
import sys
import threading
import tracemalloc
import weakref
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any, ClassVar

import brotli  # type: ignore[import-untyped]
import httpx
import httpx2
import pytest
import zstandard
from opentelemetry import baggage, context, trace
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_sessions import capture
from otel_sessions.base import names
from otel_sessions.base.context import active_session
from otel_sessions.base.guard import counters
from otel_sessions.base.paths import session_trace_id, step_span_id
from otel_sessions.base.settings import Settings
from otel_sessions.capture import hook, reaper
from otel_sessions.sessions import session

MODULES = (httpx, httpx2)
URL = "https://api.openai.com/v1/chat/completions"
REQUEST = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**REQUEST, "stream": True, "stream_options": {"include_usage": True}}
ANSWER = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}
EVENTS = [
    b'data: {"id":"chatcmpl-1","model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"content":"he"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":"llo"},"finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}\n\n',
    b"data: [DONE]\n\n",
]


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def client(module: ModuleType, handler: Callable[[Any], Any], **options: Any) -> Any:
    return module.Client(transport=module.MockTransport(handler), **options)


def async_client(module: ModuleType, handler: Callable[[Any], Any], **options: Any) -> Any:
    return module.AsyncClient(transport=module.MockTransport(handler), **options)


def answering(module: ModuleType, seen: list[Any] | None = None) -> Callable[[Any], Any]:
    def handler(request: Any) -> Any:
        if seen is not None:
            seen.append(request)
        return module.Response(200, json=ANSWER)

    return handler


def streaming(module: ModuleType, pieces: list[bytes] = EVENTS, error: BaseException | None = None) -> Any:
    def body() -> Iterator[bytes]:
        yield from pieces
        if error is not None:
            raise error

    def handler(_request: Any) -> Any:
        return module.Response(200, content=body(), headers={"content-type": "text/event-stream"})

    return handler


def async_streaming(module: ModuleType, pieces: list[bytes] = EVENTS, then: Any = None) -> Callable[[Any], Any]:
    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        if then is not None:
            await then()

    def handler(_request: Any) -> Any:
        return module.Response(200, content=body(), headers={"content-type": "text/event-stream"})

    return handler


class Loopback(BaseHTTPRequestHandler):
    """A real server: answers POST with :data:`ANSWER`, and a model named ``stalls`` with half a stream."""

    protocol_version = "HTTP/1.1"
    requests: ClassVar[list[dict[str, str]]] = []
    released: ClassVar[threading.Event]

    def do_GET(self) -> None:
        self._answer(b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if b"stalls" not in body:
            self._answer(json.dumps(ANSWER).encode())
            return
        self._head("text/event-stream", 1_000)
        self.wfile.write(EVENTS[0])
        self.released.wait(10)
        self.close_connection = True

    def _answer(self, body: bytes) -> None:
        self.requests.append({name.lower(): value for name, value in self.headers.items()})
        self._head("application/json", len(body))
        self.wfile.write(body)

    def _head(self, content_type: str, length: int) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(length))
        self.end_headers()

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """URL of a loopback server, and the headers of the requests that it got."""
    Loopback.requests, Loopback.released = [], threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Loopback) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", Loopback.requests
        Loopback.released.set()
        http.shutdown()
        thread.join()


Server = tuple[str, list[dict[str, str]]]


# What becomes a span


@pytest.mark.parametrize("module", MODULES)
def test_a_call_becomes_one_span(module: ModuleType, exporter: InMemorySpanExporter) -> None:
    """A call says its operation, models, usage, server and how it ended, and nothing is 0 that is unknown."""
    with client(module, answering(module)) as http:
        assert http.post(URL, json=REQUEST | {"max_tokens": 7, "temperature": 0.5}).json() == ANSWER
    span = only(exporter)
    assert (span.name, span.kind, span.status.status_code) == (
        "chat gpt-4o",
        trace.SpanKind.CLIENT,
        trace.StatusCode.UNSET,
    )
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "otel_sessions"
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "otel_sessions.usage.raw": json.dumps(ANSWER["usage"], separators=(",", ":")),
        "otel_sessions.response.end": "complete",
        "http.response.status_code": 200,
        "server.address": "api.openai.com",
        "server.port": 443,
    }


@pytest.mark.parametrize("module", MODULES)
async def test_an_async_streamed_call_becomes_one_span(module: ModuleType, exporter: InMemorySpanExporter) -> None:
    """A stream has the usage of its last event and a time to its first chunk, and lasts until its end."""
    async with async_client(module, async_streaming(module)) as http, http.stream("POST", URL, json=STREAM) as response:
        got = [chunk async for chunk in response.aiter_raw()]
    assert got == EVENTS
    span = only(exporter)
    found = attributes(span)
    assert found["gen_ai.usage.output_tokens"] == 5
    assert found["gen_ai.request.stream"] is True
    assert 0 < found["gen_ai.response.time_to_first_chunk"] < ((span.end_time or 0) - (span.start_time or 0)) / 1e9


@pytest.mark.parametrize("module", MODULES)
def test_clients_made_before_are_covered_and_uninstrument_undoes_it(
    module: ModuleType, provider: TracerProvider
) -> None:
    """The patch is on the class, once, and goes without a trace."""
    before = module.Client._transport_for_url
    with client(module, answering(module)) as http:
        capture.instrument(provider)
        capture.instrument(provider)
        assert type(http._transport_for_url(module.URL(URL))).__name__ == "_SyncShell"
        assert http._transport_for_url(module.URL("https://shop.example/v1/files")) is http._transport
        capture.uninstrument()
    assert module.Client._transport_for_url is before


def test_a_patch_of_someone_else_on_top_stays(monkeypatch: pytest.MonkeyPatch, provider: TracerProvider) -> None:
    """Uninstrumenting takes no other patch away, and ours is without effect below it."""
    capture.instrument(provider)
    ours = httpx2.Client._transport_for_url

    @functools.wraps(ours)
    def theirs(self: Any, url: Any) -> Any:
        return ours(self, url)

    monkeypatch.setattr(httpx2.Client, "_transport_for_url", theirs)
    capture.uninstrument()
    assert httpx2.Client._transport_for_url is theirs
    with client(httpx2, answering(httpx2)) as http:
        assert http._transport_for_url(httpx2.URL(URL)) is http._transport
    monkeypatch.undo()
    httpx2.Client._transport_for_url = ours.__wrapped__  # type: ignore[method-assign, attr-defined]


def test_websockets_are_not_llm_calls(exporter: InMemorySpanExporter) -> None:
    """A handshake gets the client's own transport."""
    with client(httpx2, answering(httpx2)) as http:
        assert http._transport_for_url(httpx2.URL("wss://api.openai.com/v1/realtime?model=m")) is http._transport


def test_server_sent_events_of_the_client(exporter: InMemorySpanExporter) -> None:
    """The event source of httpx2 reads through us as it would without."""
    with client(httpx2, streaming(httpx2)) as http, http.sse(URL, method="POST", json=STREAM) as source:
        assert [event.data for event in source][-1] == "[DONE]"
    assert attributes(only(exporter))["gen_ai.usage.output_tokens"] == 5


def test_a_provider_that_is_set_later_is_found(monkeypatch: pytest.MonkeyPatch, exporter: InMemorySpanExporter) -> None:
    """Without a provider, spans go to the global one as it is at the time of the call."""
    capture.uninstrument()
    capture.instrument()
    with client(httpx2, answering(httpx2)) as http:
        http.post(URL, json=REQUEST)
        later = TracerProvider()
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: later)
        started: list[str] = []
        later.add_span_processor(_Starts(started))
        http.post(URL, json=REQUEST)
    assert started == ["chat gpt-4o"]


class _Starts(SpanProcessor):
    def __init__(self, started: list[str]) -> None:
        self.started = started

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.started.append(span.name)


def test_nothing_is_done_while_instrumentation_is_suppressed(exporter: InMemorySpanExporter) -> None:
    """Exporters send their own requests with instrumentation suppressed; those are none of ours."""
    with client(httpx2, answering(httpx2)) as http, suppress_instrumentation():
        http.post(URL, json=REQUEST)
    assert exporter.get_finished_spans() == ()


def test_an_unsampled_call_still_sends_no_session_headers() -> None:
    """What is not recorded leaves as clean as what is."""
    seen: list[Any] = []
    capture.instrument(TracerProvider(sampler=ALWAYS_OFF))
    with client(httpx2, answering(httpx2, seen)) as http:
        http.post(URL, json=REQUEST, headers={"OTel-Session-Id": "run-1"})
    capture.uninstrument()
    assert "otel-session-id" not in seen[0].headers


@pytest.mark.parametrize("module", MODULES)
def test_http_instrumentation_makes_no_second_span_for_llm_hosts(
    module: ModuleType, provider: TracerProvider, exporter: InMemorySpanExporter, server: Server
) -> None:
    """opentelemetry-instrumentation-httpx goes on tracing other calls, and leaves LLM calls to us."""
    url, requests = server
    instrumentor = HTTPXClientInstrumentor() if module is httpx else HTTPX2ClientInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        with module.Client() as http:
            http.post(f"{url}/v1/chat/completions", json=REQUEST)
            http.get(f"{url}/weather")
    finally:
        instrumentor.uninstrument()
    assert [span.name for span in exporter.get_finished_spans()] == ["chat gpt-4o", "GET"]
    assert "traceparent" not in requests[0]
    assert "traceparent" in requests[1]


def test_a_redirected_attempt_is_not_billable(exporter: InMemorySpanExporter) -> None:
    """Of a redirect and its target only the second was answered by a model; both got no session headers."""
    seen: list[Any] = []

    def handler(request: Any) -> Any:
        seen.append(request)
        if len(seen) == 1:
            return httpx2.Response(307, headers={"location": f"{URL}?again"})
        return httpx2.Response(200, json=ANSWER)

    with client(httpx2, handler, follow_redirects=True) as http:
        response = http.post(URL, json=REQUEST, headers={"OTel-Session-Id": "run-1"})
    assert response.history[0].request.headers["otel-session-id"] == "run-1"
    assert ["otel-session-id" in request.headers for request in seen] == [False, False]
    first, second = exporter.get_finished_spans()
    assert (attributes(first)[names.BILLABLE], attributes(second).get(names.BILLABLE)) == (False, None)
    assert attributes(second)["gen_ai.conversation.id"] == "run-1"


# What leaves


@pytest.mark.parametrize("module", MODULES)
def test_session_headers_and_trace_context_never_leave(module: ModuleType, exporter: InMemorySpanExporter) -> None:
    """They are taken off a copy: the host's own request keeps them, and every other header stays in its place."""
    seen: list[Any] = []
    with client(module, answering(module, seen), headers={"Helicone-Session-Id": "run-1"}) as http:
        response = http.post(
            URL,
            json=REQUEST,
            headers={
                "X-Mine": "1",
                "OTel-Session-Path": "/triage",
                "traceparent": "00-1-2-01",
                "baggage": "a=b",
                "Helicone-Auth": "key",
                "Authorization": "Bearer key",
            },
        )
    kept = [name for name, _ in response.request.headers.raw if name not in {
        b"Helicone-Session-Id", b"OTel-Session-Path", b"traceparent", b"baggage",
    }]  # fmt: skip
    assert [name for name, _ in seen[0].headers.raw] == kept
    assert response.request.headers["helicone-session-id"] == "run-1"
    assert response.request is not seen[0]
    assert not [value for value in attributes(only(exporter)).values() if "key" in str(value)]


def test_a_request_without_such_headers_is_passed_on_as_it_is(exporter: InMemorySpanExporter) -> None:
    """Nothing to strip, nothing to copy: the transport gets the host's own request object."""
    seen: list[Any] = []
    with client(httpx2, answering(httpx2, seen)) as http:
        assert http.post(URL, json=REQUEST).request is seen[0]


def test_other_requests_are_never_touched(exporter: InMemorySpanExporter) -> None:
    """Session headers on a request to a host that is no LLM provider's belong to the host."""
    seen: list[Any] = []
    with client(httpx2, answering(httpx2, seen)) as http:
        request = http.get("https://shop.example/v1/models", headers={"OTel-Session-Id": "run-1"}).request
        http.post("https://shop.example/v1/completions", json={"form": 1}, headers={"Helicone-User-Id": "u"})
    assert seen[0] is request
    assert (seen[0].headers["otel-session-id"], seen[1].headers["helicone-user-id"]) == ("run-1", "u")
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/models"), ("GET", "/v1/chat/completions"), ("POST", "/v1/files?purpose=batch")]
)
def test_control_calls_of_a_provider_make_no_span_and_give_nothing_away(
    method: str, path: str, exporter: InMemorySpanExporter
) -> None:
    """Files, models and polling on a provider's host are no LLM calls, and carry no session or trace context either."""
    seen: list[Any] = []
    headers = {"OTel-Session-Id": "run-1", "traceparent": "00-1-2-01", "X-Mine": "1"}
    with client(httpx2, answering(httpx2, seen)) as http:
        http.request(method, f"https://api.openai.com{path}", headers=headers)
    assert seen[0].headers["x-mine"] == "1"
    assert not {"otel-session-id", "traceparent"} & seen[0].headers.keys()
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("host", ["gateway.internal", "oai.helicone.ai"])
def test_forward_hosts_receive_the_headers(host: str, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """A proxy that is listed gets what is stripped elsewhere; the call is recorded all the same."""
    capture.uninstrument()
    capture.instrument(provider, settings=Settings(forward_hosts=("gateway.internal", "oai.helicone.ai")))
    seen: list[Any] = []
    with client(httpx2, answering(httpx2, seen)) as http:
        http.post(f"https://{host}/v1/chat/completions", json=REQUEST, headers={"Helicone-Session-Id": "run-1"})
    assert seen[0].headers["helicone-session-id"] == "run-1"
    assert attributes(only(exporter))["gen_ai.conversation.id"] == "run-1"


def test_forward_hosts_receive_trace_context_and_baggage(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """A proxy of one's own goes on where the call's span is, in its session."""
    capture.uninstrument()
    capture.instrument(provider, settings=Settings(forward_hosts=("gateway.internal",)))
    seen: list[Any] = []
    with client(httpx2, answering(httpx2, seen)) as http, session("run-1", path="/a"):
        request = http.post(
            "https://gateway.internal/v1/chat/completions", json=REQUEST, headers={"X-Mine": "1"}
        ).request
    span_context = only(exporter).context
    assert span_context is not None
    assert seen[0].headers["traceparent"] == f"00-{span_context.trace_id:032x}-{span_context.span_id:016x}-01"
    assert "session.id=run-1" in seen[0].headers["baggage"]
    assert seen[0].headers["x-mine"] == "1"
    assert "traceparent" not in request.headers


def test_include_usage_is_added_only_where_it_was_asked_for(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """With the setting, a stream that lacks the option gets it, in a copy with the right length; others do not."""
    capture.uninstrument()
    capture.instrument(provider, settings=Settings(include_usage=True))
    seen: list[Any] = []
    bodies = [
        REQUEST | {"stream": True},
        REQUEST | {"stream": True, "stream_options": {"x": 1}},
        REQUEST | {"stream": True, "stream_options": {"include_usage": False}},
        REQUEST,
    ]
    with client(httpx2, answering(httpx2, seen)) as http:
        mine = [http.post(URL, json=body).request for body in bodies]
    sent = [json.loads(request.content) for request in seen]
    assert [body.get("stream_options") for body in sent] == [
        {"include_usage": True}, {"x": 1, "include_usage": True}, {"include_usage": False}, None,
    ]  # fmt: skip
    assert [json.loads(request.content) for request in mine] == bodies
    assert all(int(request.headers["content-length"]) == len(request.content) for request in seen)


def test_a_body_that_is_yet_to_be_streamed_is_not_consumed(exporter: InMemorySpanExporter) -> None:
    """On a known host a call whose body is an iterator is recorded without facts of the request."""
    seen: list[bytes] = []

    def handler(request: Any) -> Any:
        seen.append(request.content)
        return httpx2.Response(200, json=ANSWER)

    with client(httpx2, handler) as http:
        http.post(URL, content=iter([b'{"model":', b'"gpt-4o"}']), headers={"OTel-Session-Id": "run-1"})
    assert seen == [b'{"model":"gpt-4o"}']
    assert only(exporter).name == "chat"


def test_a_body_that_a_transport_has_loaded_can_be_sent_again(exporter: InMemorySpanExporter) -> None:
    """A redirect repeats a request whose body was an iterator, also where what was sent is a copy."""
    seen: list[bytes] = []

    def handler(request: Any) -> Any:
        seen.append(request.content)
        return httpx2.Response(307, headers={"location": f"{URL}?2"}) if len(seen) == 1 else httpx2.Response(200)

    with client(httpx2, handler, follow_redirects=True) as http:
        http.post(URL, content=iter([b"{}"]), headers={"OTel-Session-Id": "run-1"})
    assert seen == [b"{}", b"{}"]


# Whose session


def test_a_header_session_hangs_below_its_step(exporter: InMemorySpanExporter) -> None:
    """Without any other code, the span lies in the session trace, below the step of its path."""
    with client(httpx2, answering(httpx2)) as http:
        http.post(URL, json=REQUEST, headers={"OTel-Session-Id": "run-1", "OTel-Session-Path": "triage//classify/"})
    span = only(exporter)
    assert span.parent is not None
    assert span.parent.trace_id == session_trace_id("run-1")
    assert span.parent.span_id == step_span_id("run-1", "/triage/classify")
    assert active_session() is None


def test_an_ambient_session_is_taken_and_headers_win(exporter: InMemorySpanExporter) -> None:
    """A path in the headers moves the call inside the ambient session; another id leaves it."""
    with session("run-1", path="/triage"), client(httpx2, answering(httpx2)) as http:
        http.post(URL, json=REQUEST)
        http.post(URL, json=REQUEST, headers={"OTel-Session-Path": "/respond"})
        http.post(URL, json=REQUEST, headers={"OTel-Session-Id": "run-2"})
    parents = [span.parent.span_id for span in exporter.get_finished_spans() if span.parent]
    assert parents == [
        step_span_id("run-1", "/triage"),
        step_span_id("run-1", "/respond"),
        step_span_id("run-2", "/"),
    ]


async def test_interleaved_tasks_keep_their_sessions(exporter: InMemorySpanExporter) -> None:
    """50 tasks with a session each, their streams interleaved: every call in its own session."""
    gate = asyncio.Barrier(50)

    async def one(number: int, http: Any) -> None:
        with session(f"run-{number}", path="/a"):
            async with http.stream("POST", URL, json=STREAM | {"model": f"m{number}"}) as response:
                await gate.wait()
                async for _ in response.aiter_lines():
                    await asyncio.sleep(0)

    async with async_client(httpx2, async_streaming(httpx2)) as http:
        await asyncio.gather(*(one(number, http) for number in range(50)))
    found = {attributes(span)["gen_ai.conversation.id"]: span for span in exporter.get_finished_spans()}
    assert len(found) == 50
    for number in range(50):
        span = found[f"run-{number}"]
        assert span.name == f"chat m{number}"
        assert span.parent is not None
        assert span.parent.span_id == step_span_id(f"run-{number}", "/a")


def test_threads_keep_their_sessions(exporter: InMemorySpanExporter) -> None:
    """20 threads with a session each on one client."""
    gate = threading.Barrier(20)

    def one(number: int) -> None:
        gate.wait(10)
        for _ in range(5):
            http.post(URL, json=REQUEST, headers={"Helicone-Session-Id": f"run-{number}", "Helicone-User-Id": "u"})

    with client(httpx2, answering(httpx2)) as http, ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(20)))
    ids = [attributes(span)["gen_ai.conversation.id"] for span in exporter.get_finished_spans()]
    assert sorted(ids) == sorted(f"run-{number}" for number in range(20) for _ in range(5))


# Other instrumentations


@pytest.mark.parametrize(
    ("key", "value"),
    [("gen_ai.operation.name", "chat"), ("openinference.span.kind", "LLM"), ("llm.request.type", "chat")],
)
def test_an_enclosing_llm_span_is_marked_as_superseded(
    key: str, value: str, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """Of two spans for one exchange ours stays the billable one, and the other says which that is."""
    with (
        provider.get_tracer("other").start_as_current_span("wrapper", attributes={key: value}),
        client(httpx2, answering(httpx2)) as http,
    ):
        http.post(URL, json=REQUEST)
    ours, wrapper = exporter.get_finished_spans()
    assert ours.context is not None
    assert names.BILLABLE not in attributes(ours)
    assert attributes(wrapper)[names.BILLABLE] is False
    assert attributes(wrapper)[names.SUPERSEDED_BY] == f"{ours.context.span_id:016x}"


def test_an_enclosing_agent_span_is_not_marked(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """An agent's span stands for many calls; it stays as it is, and is the parent."""
    tracer = provider.get_tracer("other")
    with (
        tracer.start_as_current_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"}),
        client(httpx2, answering(httpx2)) as http,
    ):
        http.post(URL, json=REQUEST)
    ours, agent = exporter.get_finished_spans()
    assert names.BILLABLE not in attributes(agent)
    assert ours.parent == agent.context


# How it ends


def ends(exporter: InMemorySpanExporter) -> tuple[str, str | None, bool]:
    """(body end, error type, whether the status is an error) of the only span."""
    span = only(exporter)
    found = attributes(span)
    return found[names.BODY_END], found.get(names.ERROR_TYPE), span.status.status_code is trace.StatusCode.ERROR


def test_an_http_error_is_an_error_by_its_status(exporter: InMemorySpanExporter) -> None:
    """The status code is the error's type, and the message, which may quote keys and prompts, is not recorded."""
    error = {"error": {"message": "Incorrect API key provided: sk-1***", "type": "invalid_request_error"}}
    with client(httpx2, lambda request: httpx2.Response(401, json=error)) as http:
        assert http.post(URL, json=REQUEST).json() == error
    assert ends(exporter) == ("complete", "401", True)
    assert "sk-1" not in only(exporter).to_json()


@pytest.mark.parametrize("module", MODULES)
def test_a_connection_error_is_the_hosts_and_the_spans(module: ModuleType, exporter: InMemorySpanExporter) -> None:
    """The exception reaches the host with the host's own request; the span has its qualified name."""
    with socket.socket() as unused, module.Client() as http:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1/chat/completions"
        request = http.build_request("POST", url, json=REQUEST, headers={"OTel-Session-Id": "run-1"})
        with pytest.raises(module.ConnectError) as caught:
            http.send(request)
    assert caught.value.request is request
    assert ends(exporter) == ("none", f"{module.__name__}.ConnectError", True)


@pytest.mark.parametrize("module", MODULES)
def test_a_read_timeout_inside_the_body_ends_the_span(
    module: ModuleType, exporter: InMemorySpanExporter, server: Server
) -> None:
    """The first half of a stream arrives, then nothing: the host gets its timeout, the span says so."""
    with (
        module.Client(timeout=0.2) as http,
        http.stream("POST", f"{server[0]}/v1/chat/completions", json=STREAM | {"model": "stalls"}) as response,
        pytest.raises(module.ReadTimeout),
    ):
        list(response.iter_raw())
    assert ends(exporter) == ("failed", f"{module.__name__}.ReadTimeout", True)


def test_an_error_event_inside_a_good_stream_is_an_error(exporter: InMemorySpanExporter) -> None:
    """Status 200 was sent before the model failed."""
    events = [*EVENTS[:1], b'data: {"error":{"type":"server_error","message":"x"}}\n\n']
    with client(httpx2, streaming(httpx2, events)) as http:
        http.post(URL, json=STREAM)
    assert ends(exporter) == ("complete", "server_error", True)


@pytest.mark.parametrize("module", MODULES)
def test_an_exception_in_the_body_is_passed_on(module: ModuleType, exporter: InMemorySpanExporter) -> None:
    """What the transport raises while the host iterates is the same object that the host catches."""
    error = ConnectionResetError(104, "reset")
    with client(module, streaming(module, EVENTS[:1], error)) as http, pytest.raises(ConnectionResetError) as caught:
        http.post(URL, json=STREAM)
    assert caught.value is error
    assert ends(exporter) == ("failed", "ConnectionResetError", True)


@pytest.mark.parametrize("module", MODULES)
def test_closing_early_is_no_error(module: ModuleType, exporter: InMemorySpanExporter) -> None:
    """The host has seen enough; the span ends then and there, with what is known."""
    with client(module, streaming(module)) as http, http.stream("POST", URL, json=STREAM) as response:
        assert next(response.iter_raw()) == EVENTS[0]
    assert ends(exporter) == ("closed", None, False)
    assert attributes(only(exporter))["gen_ai.response.id"] == "chatcmpl-1"
    assert "gen_ai.usage.input_tokens" not in attributes(only(exporter))


@pytest.mark.parametrize("module", MODULES)
async def test_closing_early_in_async_is_no_error(module: ModuleType, exporter: InMemorySpanExporter) -> None:
    """As for the sync client."""
    async with async_client(module, async_streaming(module)) as http, http.stream("POST", URL, json=STREAM) as response:
        async for _ in response.aiter_lines():
            break
    assert ends(exporter) == ("closed", None, False)


async def test_cancelling_a_task_ends_its_span(exporter: InMemorySpanExporter) -> None:
    """A task that is cancelled in the middle of a stream ends the span as cancelled, and stays cancelled."""
    arrived = asyncio.Event()

    async def stall() -> None:
        arrived.set()
        await asyncio.Event().wait()

    async with async_client(httpx2, async_streaming(httpx2, EVENTS[:1], stall)) as http:
        task = asyncio.create_task(http.post(URL, json=STREAM))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ends(exporter) == ("cancelled", "cancelled", True)


async def test_cancelling_before_the_response_ends_its_span(exporter: InMemorySpanExporter) -> None:
    """Cancelled while waiting for headers."""
    arrived = asyncio.Event()

    async def handler(_request: Any) -> Any:
        arrived.set()
        await asyncio.Event().wait()

    async with async_client(httpx2, handler) as http:
        task = asyncio.create_task(http.post(URL, json=REQUEST))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ends(exporter) == ("cancelled", "cancelled", True)


@pytest.mark.parametrize("module", MODULES)
def test_a_stream_that_nobody_reads_or_closes_yields_one_span(
    module: ModuleType, exporter: InMemorySpanExporter
) -> None:
    """Dropped by the host, it is ended outside of the finaliser."""
    with client(module, streaming(module)) as http:
        response = http.send(http.build_request("POST", URL, json=STREAM), stream=True)
        assert exporter.get_finished_spans() == ()
        del response
        gc.collect()
        capture.drain()
        wait_for(exporter.get_finished_spans)
    assert ends(exporter) == ("abandoned", None, False)


@pytest.mark.parametrize("module", MODULES)
def test_a_cycle_that_is_collected_ends_nothing_inside_the_collector(
    module: ModuleType, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """A half-read stream in a reference cycle is closed by the collector; a lock that is held then must not matter."""
    ended_in: list[bool] = []
    provider.add_span_processor(_Ends(ended_in))
    with client(module, streaming(module)) as http:
        response = http.send(http.build_request("POST", URL, json=STREAM), stream=True)
        lines = response.iter_lines()
        next(lines)
        cycle: list[Any] = [response, lines]
        cycle.append(cycle)
        del response, lines, cycle
        gc.collect()
        capture.drain()
        wait_for(lambda: ended_in)
    assert ended_in == [False]
    assert ends(exporter)[0] == "abandoned"


@pytest.mark.parametrize("module", MODULES)
def test_a_response_that_is_kept_does_not_keep_its_span(
    module: ModuleType, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """A host may keep thousands of responses; what was recorded of them, perhaps with content, is its exporter's alone."""
    started: list[weakref.ref[Any]] = []
    provider.add_span_processor(_Remembers(started))
    with client(module, streaming(module)) as http:
        response = http.post(URL, json=STREAM)
    gc.collect()
    assert response.content == b"".join(EVENTS)
    assert [span() for span in started] == [None]
    assert ends(exporter)[0] == "complete"


class _Remembers(SpanProcessor):
    def __init__(self, started: list[weakref.ref[Any]]) -> None:
        self.started = started

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.started.append(weakref.ref(span))


class _Ends(SpanProcessor):
    def __init__(self, ended_in: list[bool]) -> None:
        self.ended_in = ended_in

    def on_end(self, span: Any) -> None:
        self.ended_in.append(reaper.in_collector())


def wait_for(found: Callable[[], Any]) -> None:
    """The reaper's thread may be just about to end what ``drain`` found gone."""
    done = threading.Event()
    for _ in range(500):
        if found():
            return
        done.wait(0.01)


def test_uninstrument_ends_what_is_open_and_the_host_reads_on(exporter: InMemorySpanExporter) -> None:
    """A stream that outlives the instrumentation is the host's; its span is ended once, at that moment."""
    with client(httpx2, streaming(httpx2)) as http, http.stream("POST", URL, json=STREAM) as response:
        capture.uninstrument()
        assert ends(exporter)[0] == "abandoned"
        assert b"".join(response.iter_raw()) == b"".join(EVENTS)
    assert len(exporter.get_finished_spans()) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_end_the_parents_spans(exporter: InMemorySpanExporter) -> None:
    """The child reads on; only the parent ends the span."""
    with client(httpx2, streaming(httpx2)) as http, http.stream("POST", URL, json=STREAM) as response:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            list(response.iter_raw())
            os.write(write, str(len(exporter.get_finished_spans())).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(read, 10) == b"0"
        os.close(read)
        os.close(write)
    assert ends(exporter)[0] == "closed"


# Bodies


def encoded(data: bytes) -> dict[str, bytes]:
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return {
        "gzip": gzip.compress(data),
        "deflate": zlib.compress(data),
        "deflate ": raw.compress(data) + raw.flush(),
        "br": brotli.compress(data),
        "zstd": zstandard.compress(data),
        "gzip, br": brotli.compress(gzip.compress(data)),
        "identity": data,
        "unheard-of": data,
    }


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("coding", list(encoded(b"")))
def test_encoded_bodies_are_read_as_the_host_reads_them(
    coding: str, module: ModuleType, exporter: InMemorySpanExporter
) -> None:
    """gzip, deflate, br, zstd and several at once, over three chunks; the host sees the raw bytes untouched."""
    data = encoded(json.dumps(ANSWER).encode())[coding]
    pieces = [data[:20], data[20:50], data[50:]]

    def handler(_request: Any) -> Any:
        return module.Response(200, content=iter(pieces), headers={"content-encoding": coding.strip()})

    with client(module, handler) as http, http.stream("POST", URL, json=REQUEST) as response:
        assert list(response.iter_raw()) == pieces
    readable = coding.strip() not in {"zstd", "br", "gzip, br"} or coding.strip().rpartition(" ")[2] in decoders(module)
    assert attributes(only(exporter)).get("gen_ai.usage.output_tokens") == (5 if readable else None)


def decoders(module: ModuleType) -> set[str]:
    return set(sys.modules[f"{module.__name__}._decoders"].SUPPORTED_DECODERS)


def test_a_body_that_is_not_what_it_says_reaches_the_host(exporter: InMemorySpanExporter) -> None:
    """Not gzip after all: the host gets its decoding error, the span ends, nothing of ours is counted as failed."""
    before = counters()

    def handler(_request: Any) -> Any:
        return httpx2.Response(200, content=iter([b"plainly not gzip"]), headers={"content-encoding": "gzip"})

    with client(httpx2, handler) as http, pytest.raises(httpx2.DecodingError):
        http.post(URL, json=REQUEST)
    assert len(exporter.get_finished_spans()) == 1
    assert counters() == before


@pytest.mark.parametrize("lead", [b'{"data":["', b'data: {"x":"'])
def test_memory_stays_bounded_for_a_body_of_200_mb(lead: bytes, exporter: InMemorySpanExporter) -> None:
    """The usage at the end of a document, or of one endless event, is found; what is kept is a few megabytes."""
    filler = b"x" * 65_536
    usage = b'"],"usage":{"prompt_tokens":3,"total_tokens":3}}\n\n'

    def body() -> Iterator[bytes]:
        yield lead
        for _ in range(3_200):
            yield filler
        yield usage

    url = "https://api.openai.com/v1/embeddings"
    with client(httpx2, lambda request: httpx2.Response(200, content=body())) as http:
        tracemalloc.start()
        with http.stream("POST", url, json={"model": "m", "input": "x"}) as response:
            assert sum(len(chunk) for chunk in response.iter_raw()) > 200_000_000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 16_000_000
    assert attributes(only(exporter))["gen_ai.usage.input_tokens"] == 3


def test_the_stream_keeps_the_attributes_of_the_inner_one(exporter: InMemorySpanExporter) -> None:
    """What a transport hangs on its stream is still to be had."""

    class Marked(httpx2.SyncByteStream):
        mark = "kept"

        def __iter__(self) -> Iterator[bytes]:
            yield from EVENTS

    response = httpx2.Response(200, stream=Marked())
    with client(httpx2, lambda request: response) as http:
        got = http.send(http.build_request("POST", URL, json=STREAM), stream=True)
        assert got.stream._stream.mark == "kept"
        assert isinstance(got.stream._stream, httpx2.SyncByteStream)
        got.read()


def test_a_failure_of_ours_never_reaches_the_host(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every entry is guarded: the call goes through, and the failure is counted."""

    def broken(*args: object, **options: object) -> Any:
        raise RuntimeError("ours")

    before = counters().get("error.capture.start", 0)
    monkeypatch.setattr("otel_sessions.capture.request.active_session", broken)
    with client(httpx2, answering(httpx2)) as http:
        assert http.post(URL, json=REQUEST).json() == ANSWER
    assert counters()["error.capture.start"] == before + 1


def test_a_received_session_is_taken_from_baggage(exporter: InMemorySpanExporter) -> None:
    """Baggage without traceparent still puts the call below its step."""
    ctx = baggage.set_baggage("session.path", "/a", baggage.set_baggage("session.id", "run-9"))
    token = context.attach(ctx)
    with client(httpx2, answering(httpx2)) as http:
        http.post(URL, json=REQUEST)
    context.detach(token)
    span = only(exporter)
    assert span.parent is not None
    assert span.parent.span_id == step_span_id("run-9", "/a")


def test_bodies_nested_beyond_measure_are_read_as_far_as_it_matters(exporter: InMemorySpanExporter) -> None:
    """A request or a response that no parser follows costs no fact, and lets no session header through."""
    deep = b"[" * 3000 + b"]" * 3000
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        seen.append(request)
        return httpx2.Response(200, content=b'{"id":"x","deep":' + deep + b',"usage":{"prompt_tokens":7}}')

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        body = b'{"model":"gpt-4o","messages":[{"role":"user","content":' + deep + b"}]}"
        http.post(URL, content=body, headers={"OTel-Session-Id": "run-1"})
    assert "otel-session-id" not in seen[0].headers
    found = attributes(only(exporter))
    assert (found["gen_ai.request.model"], found["gen_ai.usage.input_tokens"]) == ("gpt-4o", 7)


def test_suppressed_calls_give_no_session_away(exporter: InMemorySpanExporter) -> None:
    """Where instrumentation is suppressed nothing is recorded, and session headers still do not leave."""
    seen: list[Any] = []
    with client(httpx2, answering(httpx2, seen)) as http, suppress_instrumentation():
        http.post(URL, json=REQUEST, headers={"OTel-Session-Id": "run-1"})
    assert "otel-session-id" not in seen[0].headers
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("module", MODULES)
def test_headers_are_found_where_a_module_keeps_them(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the list behind them, and through the public ``raw`` where a module keeps them in another way: the same ones."""
    message = module.Request("POST", "http://test", headers=[("OTel-Session-Id", "r"), ("x", "1")])
    listed = hook.HttpModule(module).items(message)
    assert listed is message.headers._list

    class Elsewhere(module.Headers):  # type: ignore[name-defined,misc]
        @property
        def _list(self) -> list[tuple[bytes, bytes]]:
            return self.__dict__.get("moved", [])  # type: ignore[no-any-return]

        @_list.setter
        def _list(self, value: list[tuple[bytes, bytes, bytes]]) -> None:
            self.__dict__["moved"] = [item[:2] for item in value]

    monkeypatch.setattr(module, "Headers", Elsewhere)
    assert hook.HttpModule(module).items(message) == listed
