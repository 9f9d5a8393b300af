"""otel_sessions.testing as its users have it: a small agent on real SDKs, recorded and compared with literals."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sessions import capture
from otel_sessions.base.errors import SettingError
from otel_sessions.sessions import session, step
from otel_sessions.testing import Call, FakeProvider, record, ticking

SECOND = 1_000_000_000


def client_of(provider: FakeProvider) -> openai.OpenAI:
    return openai.OpenAI(
        api_key="test", max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(provider))
    )


def ask(client: openai.OpenAI, text: str = "hello", **more: Any) -> Any:
    return client.chat.completions.create(model="gpt-6", messages=[{"role": "user", "content": text}], **more)


def agent(client: openai.OpenAI) -> None:
    with session("run-1", name="triage"), step("triage"):
        ask(client)
        with step("classify"):
            ask(client)
            ask(client)
        with step("respond"):
            ask(client)


def test_an_agents_run_is_one_literal() -> None:
    """The tree of a run, its calls and its step spans, with ids and times that are the same in every run."""
    with record(clock=ticking(0)) as recording:
        agent(client_of(FakeProvider(input_tokens=12, output_tokens=3)))
    assert recording.tree() == {
        "/": [{"triage": ["chat gpt-6", {"classify": ["chat gpt-6", "chat gpt-6"]}, {"respond": ["chat gpt-6"]}]}]
    }
    assert recording.calls()[0] == Call(
        session_id="run-1",
        path="/triage",
        operation="chat",
        provider="openai",
        model="gpt-6",
        input_tokens=12,
        cached_input_tokens=None,
        output_tokens=3,
        error_type=None,
    )
    times = [(span.name, span.start_time // SECOND, span.end_time // SECOND) for span in recording.spans]  # type: ignore[operator]
    assert times == [
        ("triage", 0, 15),
        ("triage", 1, 14),
        ("chat gpt-6", 2, 3),
        ("classify", 4, 9),
        ("chat gpt-6", 5, 6),
        ("chat gpt-6", 7, 8),
        ("respond", 10, 13),
        ("chat gpt-6", 11, 12),
    ]
    assert [span.context.span_id for span in recording.spans if span.name.startswith("chat")] == [1, 2, 3, 4]


def test_sessions_tagged_by_headers_are_recorded_too() -> None:
    """Without any block: the tree follows from the paths, and the provider does not see the headers."""
    provider = FakeProvider()
    with record() as recording:
        for path in ("/triage/respond", "/triage"):
            headers = {"OTel-Session-Id": "run-2", "OTel-Session-Path": path}
            ask(client_of(provider), extra_headers=headers)
    assert recording.tree("run-2") == {"/": [{"triage": [{"respond": ["chat gpt-6"]}, "chat gpt-6"]}]}
    assert not any(name.startswith("otel-session") for name in provider.received[0].headers)
    assert {span.name for span in recording.spans} == {"session", "triage", "respond", "chat gpt-6"}


def test_tree_asks_which_session_is_meant() -> None:
    """With several sessions, or none, there is no single tree."""
    with record() as recording:
        with pytest.raises(ValueError, match="no session"):
            recording.tree()
        for session_id in ("b", "a"):
            with session(session_id):
                ask(client_of(FakeProvider()))
    with pytest.raises(ValueError, match=r"\['a', 'b'\]"):
        recording.tree()
    assert recording.tree("a") == {"/": ["chat gpt-6"]}
    assert [call.session_id for call in recording.calls("b")] == ["b"]


def test_calls_outside_any_session_are_recorded() -> None:
    """An agent that forgot its session shows up as None."""
    with record() as recording:
        ask(client_of(FakeProvider()))
    assert [(call.session_id, call.path) for call in recording.calls()] == [(None, None)]


def test_a_streamed_answer_is_read_by_the_sdk() -> None:
    """Chunks of the fake provider are what the SDK expects; usage comes where it is asked for."""
    provider = FakeProvider(lambda body: body["messages"][0]["content"].upper(), input_tokens=7, output_tokens=2)
    with record() as recording:
        stream = ask(client_of(provider), "hi", stream=True, stream_options={"include_usage": True})
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        ask(client_of(provider), stream=True).close()
    assert text == "HI"
    assert [(call.input_tokens, call.output_tokens) for call in recording.calls()] == [(7, 2), (None, None)]


@pytest.mark.parametrize("streamed", [False, True])
def test_responses_are_answered(streamed: bool) -> None:  # noqa: FBT001 - a parameter
    """The Responses API, whole and streamed."""
    with record() as recording:
        made: Any = client_of(FakeProvider("yes")).responses.create(model="gpt-6", input="hello", stream=streamed)
        text = "".join(getattr(event, "delta", "") for event in made) if streamed else made.output_text
    assert text == "yes"
    assert [(call.input_tokens, call.output_tokens) for call in recording.calls()] == [(10, 5)]


def test_streams_suit_the_sdks_own_accumulators() -> None:
    """``responses.stream()`` and ``chat.completions.stream()`` put the answer together from its events."""
    client = client_of(FakeProvider('{"sure": true}'))
    asked: Any = [{"role": "user", "content": "hello"}]
    with record() as recording:
        with client.responses.stream(model="gpt-6", input="hello") as responses:
            assert responses.get_final_response().output_text == '{"sure": true}'
        with client.chat.completions.stream(model="gpt-6", messages=asked) as chat:
            assert chat.get_final_completion().choices[0].message.content == '{"sure": true}'
    assert [call.output_tokens for call in recording.calls()] == [5, None]


def test_what_is_no_llm_request_is_not_found() -> None:
    """Also an upload, whose body is no JSON; it is no call."""
    client = client_of(FakeProvider())
    with record() as recording, pytest.raises(openai.NotFoundError, match="/v1/files"):
        client.files.create(file=b"\xff", purpose="batch")
    assert recording.calls() == []


@pytest.mark.parametrize("streamed", [False, True])
def test_messages_are_answered(streamed: bool) -> None:  # noqa: FBT001 - a parameter
    """Anthropic, whole and streamed."""
    transport = httpx2.MockTransport(FakeProvider("yes"))
    client = anthropic.Anthropic(api_key="test", http_client=httpx2.Client(transport=transport))
    with record() as recording, session("run"):
        given: Any = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
        if streamed:
            with client.messages.stream(**given) as stream:
                text = stream.get_final_text()
        else:
            text = client.messages.create(**given).content[0].text
    assert text == "yes"
    assert [(call.model, call.input_tokens, call.output_tokens) for call in recording.calls()] == [("claude", 10, 5)]


def test_embeddings_are_answered() -> None:
    """One vector for each text."""
    with record() as recording:
        made = client_of(FakeProvider()).embeddings.create(model="embed", input=["a", "b"], encoding_format="float")
    assert [item.embedding for item in made.data] == [[0.0, 1.0]] * 2
    assert [call.operation for call in recording.calls()] == ["embeddings"]


async def test_async_clients_of_httpx_are_answered() -> None:
    """The same provider serves the other module, and async clients."""
    provider = FakeProvider("ok")
    body = {"model": "m", "messages": []}
    with record() as recording:
        async with httpx.AsyncClient(transport=httpx.MockTransport(provider)) as client:
            answer = await client.post("https://api.groq.com/openai/v1/chat/completions", json=body)
    assert isinstance(answer, httpx.Response)
    assert answer.json()["choices"][0]["message"]["content"] == "ok"
    assert [(item.path, item.body) for item in provider.received] == [("/openai/v1/chat/completions", body)]
    assert [call.provider for call in recording.calls()] == ["groq"]


async def test_interleaved_streams_of_many_tasks_stay_in_their_sessions() -> None:
    """50 tasks, a session each, half by block and half by headers, all streams open at once."""
    transport = httpx2.MockTransport(FakeProvider())
    barrier = asyncio.Barrier(50)

    async def run(client: openai.AsyncOpenAI, n: int) -> None:
        given: Any = {"model": f"model-{n}", "messages": [{"role": "user", "content": "hello"}], "stream": True}
        if n % 2:
            headers = {"OTel-Session-Id": f"task-{n}", "OTel-Session-Path": "/a"}
            await read(await client.chat.completions.create(**given, extra_headers=headers))
        else:
            async with session(f"task-{n}"), step("a"):
                await read(await client.chat.completions.create(**given))

    async def read(stream: Any) -> None:
        await barrier.wait()
        async for _ in stream:
            await asyncio.sleep(0)

    with record() as recording:
        async with openai.AsyncOpenAI(api_key="test", http_client=httpx2.AsyncClient(transport=transport)) as client:
            await asyncio.gather(*(run(client, n) for n in range(50)))
    assert sorted((call.model, call.session_id, call.path) for call in recording.calls()) == sorted(
        (f"model-{n}", f"task-{n}", "/a") for n in range(50)
    )
    assert len(recording.spans) == 150


def test_interleaved_streams_of_many_threads_stay_in_their_sessions() -> None:
    """20 threads, a session each, all streams open at once."""
    client, barrier = client_of(FakeProvider()), threading.Barrier(20)

    def run(n: int) -> None:
        with session(f"thread-{n}"), step("a"):
            stream = ask(client, stream=True, extra_headers={"OTel-Session-Path": f"/a/{n}"})
            barrier.wait(30)
            for _ in stream:
                pass

    with record() as recording, ThreadPoolExecutor(20) as pool:
        for done in [pool.submit(run, n) for n in range(20)]:
            done.result()
    assert sorted((str(call.session_id), call.path) for call in recording.calls()) == sorted(
        (f"thread-{n}", f"/a/{n}") for n in range(20)
    )


def test_errors_are_answered() -> None:
    """A status makes the SDK raise, and the call says so; an unknown path is a 404."""
    provider = FakeProvider(status=429)
    with record() as recording, pytest.raises(openai.RateLimitError):
        ask(client_of(provider))
    assert [call.error_type for call in recording.calls()] == ["429"]
    with pytest.raises(openai.NotFoundError):
        client_of(FakeProvider()).models.list()


def test_own_spans_of_the_agent_are_recorded() -> None:
    """recording.provider gives tracers whose spans know their session."""
    with record() as recording, session("run"), recording.provider.get_tracer("agent").start_as_current_span("plan"):
        pass
    assert [(span.name, (span.attributes or {})["session.id"]) for span in recording.spans] == [
        ("session", "run"),
        ("plan", "run"),
    ]


def test_an_instrumentation_in_force_comes_back() -> None:
    """A test inside an instrumented program records for itself, and leaves the program as it was."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    client = client_of(FakeProvider())
    capture.instrument(provider)
    try:
        with record() as recording:
            ask(client)
        assert (len(recording.calls()), len(exporter.get_finished_spans())) == (1, 0)
        ask(client)
        assert (len(recording.calls()), len(exporter.get_finished_spans())) == (1, 1)
    finally:
        capture.uninstrument()
        provider.shutdown()


def test_settings_are_checked_and_used() -> None:
    """Capture settings are given as to configure(); a wrong one is refused before anything is recorded."""
    with record(capture_content=True, redact=lambda _: "***") as recording:
        ask(client_of(FakeProvider("secret")), "secret")
    (span,) = recording.spans
    assert "secret" not in str(dict(span.attributes or {}))
    assert "***" in str(dict(span.attributes or {}))
    with pytest.raises(SettingError), record(nonsense=1):
        pass
    assert capture.in_force() is None
