"""Bodies that end early, arrive in disorder, or are shaped as no documentation says: what is known is read, nothing is made up."""

from __future__ import annotations

import logging
from typing import Any

import httpx2
import pytest
from exchanges import chunk, counts, encoded, events, exchange, lines, message
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_sessions.capture.formats.wire import shallow
from otel_sessions.prices.costs import Cost, cost_of

MESSAGES = "https://api.anthropic.com/v1/messages"
ASKED = {"model": "claude-x", "max_tokens": 9, "messages": [], "stream": True}
BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-x/invoke-with-response-stream"
OPENAI = "https://api.openai.com/v1"
CHAT = {"model": "m", "messages": [], "stream": True}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
READ = {"input_tokens": 3, "output_tokens": 4}

START = {
    "type": "message_start",
    "message": {
        "id": "i",
        "model": "claude-x",
        "stop_reason": None,
        "usage": {"input_tokens": 900, "output_tokens": 1},
    },
}
TEXT = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "much"}}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 70}}
FAILED = {"type": "error", "error": {"type": "overloaded_error"}}
GUESS = '{"input_tokens": 900, "output_tokens": 1}'


class TestAnthropicEndsEarly:
    @pytest.mark.parametrize("parts", [[START], [START, TEXT], [START, TEXT, FAILED]], ids=["start", "text", "error"])
    def test_what_was_written_until_then_is_not_known(self, parts: list[Any]) -> None:
        """The count that a stream begins with is a guess: it stays in the raw usage, and nothing is priced by it."""
        found = exchange(MESSAGES, ASKED, b"".join(b"data: " + encoded(part) + b"\n\n" for part in parts))
        assert counts(found) == {}
        assert found is not None
        assert found["otel_sessions.usage.raw"] == GUESS
        assert (found["gen_ai.response.id"], found["gen_ai.response.model"]) == ("i", "claude-x")

    def test_the_host_that_stops_reading_is_told_nothing_else(self, exporter: InMemorySpanExporter) -> None:
        """Closing a stream is no error, and its call has no cost."""
        body = [b"event: x\ndata: " + encoded(part) + b"\n\n" for part in (START, TEXT, DELTA)]
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=iter(body)))
        with (
            httpx2.Client(transport=transport) as client,
            client.stream("POST", MESSAGES, json=ASKED) as response,
        ):
            assert b"message_start" in next(response.iter_raw())
        (span,) = exporter.get_finished_spans()
        found = dict(span.attributes or {})
        assert (found["otel_sessions.response.end"], counts(found)) == ("closed", {})
        assert cost_of(found, span.start_time or 0) == Cost(None, "no_usage")

    def test_neither_on_bedrock(self) -> None:
        """The same events, wrapped."""
        assert counts(exchange(BEDROCK, ASKED, chunk(START) + chunk(TEXT))) == {}
        whole = exchange(BEDROCK, ASKED, chunk(START) + chunk(TEXT) + chunk(DELTA))
        assert counts(whole) == {"input_tokens": 900, "output_tokens": 70}

    @pytest.mark.parametrize(
        ("parts", "output"),
        [
            ([START, TEXT, DELTA], 70),
            ([DELTA, START], 70),
            ([START, {**DELTA, "usage": None}], 1),
            ([START, DELTA, FAILED], 70),
        ],
        ids=["in order", "in disorder", "no usage at the end", "an error after it"],
    )
    def test_once_the_end_is_stated_the_beginning_counts(self, parts: list[Any], output: int) -> None:
        """In any order; where the end has no usage of its own, the beginning's is what is stated."""
        assert counts(exchange(MESSAGES, ASKED, events(*parts))) == {"input_tokens": 900, "output_tokens": output}


CUT: dict[str, tuple[str, Any, bytes, bytes]] = {
    "titan": (
        "https://bedrock-runtime.us-east-1.amazonaws.com/model/amazon.titan-x/invoke-with-response-stream", {"inputText": "x"},
        chunk({"outputText": "a", "inputTextTokenCount": 3, "totalOutputTextTokenCount": None, "completionReason": None}),
        chunk({"outputText": "b", "totalOutputTextTokenCount": 4, "completionReason": "FINISH"}),
    ),
    "gemini": (
        "https://generativelanguage.googleapis.com/v1beta/models/g:streamGenerateContent", {"contents": []},
        b'data: {"candidates":[{"content":{}}],"usageMetadata":{"promptTokenCount":3,"totalTokenCount":3}}\n\n',
        b'data: {"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":4}}\n\n',
    ),
    "watsonx": (
        "https://us-south.ml.cloud.ibm.com/ml/v1/text/generation_stream", {"model_id": "m", "input": "x"},
        b'data: {"results":[{"input_token_count":3,"generated_token_count":0,"stop_reason":"not_finished"}]}\n\n',
        b'data: {"results":[{"input_token_count":0,"generated_token_count":4,"stop_reason":"eos_token"}]}\n\n',
    ),
    "llama": (
        "https://bedrock-runtime.us-east-1.amazonaws.com/model/meta.llama/invoke-with-response-stream", {"prompt": "x"},
        chunk({"generation": "", "prompt_token_count": 3, "generation_token_count": None, "stop_reason": None}),
        chunk({"generation": "", "prompt_token_count": None, "generation_token_count": 4, "stop_reason": "stop"}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_input_alone_is_no_usage_of_a_stream(name: str) -> None:
    """A stream that was cut off when only its input was stated has no numbers, which would make it look cheap."""
    url, asked, first, rest = CUT[name]
    cut = exchange(url, asked, first)
    assert counts(cut) == {}
    assert cut is not None
    assert "3" in cut["otel_sessions.usage.raw"]
    assert counts(exchange(url, asked, first + rest)) == READ


def test_input_alone_is_usage_where_nothing_was_written() -> None:
    """A prompt that was refused is read and billed all the same."""
    body = b'data: {"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3}}\n\n'
    url = "https://generativelanguage.googleapis.com/v1beta/models/g:streamGenerateContent"
    assert counts(exchange(url, {"contents": []}, body)) == {"input_tokens": 3}


class TestNesting:
    DEEP = b"[" * 5_000 + b"]" * 5_000

    @pytest.mark.parametrize(
        "body",
        [
            b'{"id":"x","model":"m","deep":%s,"usage":%s}',
            b'{"id":7,"model":"m","deep":%s,"choices":7,"usage":%s}',
            b'{"id":"x","model":"m","deep":%s,"usage":%s}\n',
            b'data: {"id":"x","model":"m","deep":%s,"usage":%s}\n\n',
        ],
        ids=["document", "wrong types", "a line", "an event"],
    )
    def test_usage_beside_what_no_parser_follows(self, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
        """A document nested 5,000 deep is read as far as it matters, and nothing is logged."""
        with caplog.at_level(logging.DEBUG, "otel_sessions"):
            found = exchange(f"{OPENAI}/chat/completions", CHAT, body % (self.DEEP, encoded(USAGE)))
        assert counts(found) == READ
        assert caplog.records == []

    def test_a_request_too(self) -> None:
        """Its model is read, and what is asked of a stream stays as the host has it."""
        body = b'{"model":"m","stream":true,"messages":[%s],"stream_options":%s}' % (self.DEEP, self.DEEP)
        found = exchange(f"{OPENAI}/chat/completions", body, USAGE)
        assert found is not None
        assert found["gen_ai.request.model"] == "m"

    def test_items_of_an_array(self) -> None:
        """Google's streams are arrays."""
        url = "https://generativelanguage.googleapis.com/v1beta/models/g:streamGenerateContent"
        body = b'[{"deep":%s},{"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":4}}]' % self.DEEP
        assert counts(exchange(url, {"contents": []}, body)) == READ

    @given(st.binary(max_size=40) | st.text(alphabet='[]{}"\\a', max_size=40).map(str.encode))
    def test_what_is_shallow_stays_as_it_is(self, data: bytes) -> None:
        """Not a byte changes, whatever brackets stand in texts."""
        assert shallow(data) == data


def test_bytes_of_an_event_stream_that_are_no_model_event() -> None:
    """A payload that no parser follows takes no other message with it."""
    deep = message(b'{"deep":' + TestNesting.DEEP + b"}", event_type="messageStart", message_type="event")
    end = message({"usage": {"inputTokens": 3, "outputTokens": 4}}, event_type="metadata", message_type="event")
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse-stream"
    assert counts(exchange(url, {"messages": []}, deep + end)) == READ


SHAPES: dict[str, bytes] = {
    "line ends of Windows": b'event: x\r\ndata: {"id":"i","model":"m","choices":[]}\r\n\r\ndata: {"usage":%s}\r\n\r\n',
    "line ends of old": b'data: {"id":"i","model":"m"}\r\rdata: {"usage":%s}\r\r',
    "comments and ids": b': keep-alive\n\nid: 7\nretry: 3\ndata: {"model":"m"}\n\n: x\ndata: {"usage":%s}\n\n',
    "no blank after the colon": b'data:{"id":"i","model":"m"}\n\ndata:{"usage":%s}\n\ndata:[DONE]\n\n',
    "data over several lines": b'data: {"id":"i",\ndata: "usage":\ndata: %s}\n\n',
    "no last line end": b'data: {"id":"i","model":"m"}\n\ndata: {"usage":%s}',
    "single line ends": b'data: {"id":"i","model":"m"}\ndata: {"usage":%s}\n',
    "a byte order mark": b'\xef\xbb\xbfdata: {"usage":%s}\n\n',
    "usage in every chunk, at last empty": b'data: {"usage":{"prompt_tokens":3}}\n\ndata: {"usage":%s}\n\ndata: {"usage":{}}\n\n',
    "usage in every chunk, at last null": b'data: {"id":"i","model":"m","usage":%s}\n\ndata: {"usage":null}\n\n',
    "usage before the end": b'data: {"id":"i","model":"m","usage":%s}\n\ndata: {"choices":[{"finish_reason":"stop"}]}\n\n',
    "JSON lines": b'{"id":"i","model":"m"}\n{"usage":%s}\n',
    "events, then JSON lines": b'data: {"id":"i","model":"m"}\n\n{"usage":%s}\n',
    "an array": b'[{"id":"i","model":"m"},\r\n{"usage":%s}\r\n]',
    "an array that was cut": b'[{"id":"i","model":"m"},\n{"usage":%s},\n{"cho',
    "printed over many lines": b'{\n  "id": "i",\n  "usage": %s\n}\n',
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/html", ""])
def test_usage_in_bodies_of_every_shape(shape: str, kind: str) -> None:
    """Whatever the content type says: what a body is shows in its bytes."""
    headers = {"content-type": kind} if kind else {}
    found = exchange(f"{OPENAI}/chat/completions", CHAT, SHAPES[shape].replace(b"%s", encoded(USAGE)), headers=headers)
    assert counts(found) == READ


@pytest.mark.parametrize("status", [200, 400, 401, 404, 422, 429, 500, 529])
@pytest.mark.parametrize(
    "body", [b"", b" \n", b"<html>Bad gateway</html>", b"null", b"[]", b'"no"', b"{", b"data: \n\n"]
)
def test_bodies_that_say_nothing(status: int, body: bytes) -> None:
    """There is a span, with the status and without a number."""
    for url in (f"{OPENAI}/chat/completions", f"{OPENAI}/responses", MESSAGES, BEDROCK):
        found = exchange(url, CHAT | {"input": "x"}, body, status=status)
        assert found is not None
        assert counts(found) == {}
        assert found["http.response.status_code"] == status
        assert found.get("error.type") == (str(status) if status >= 400 else None)


ERRORS: dict[str, tuple[str, Any, str]] = {
    "openai": ("/chat/completions", {"error": {"type": "server_error", "message": "x"}}, "server_error"),
    "openai stream": ("/chat/completions", events({"id": "i", "model": "m"}, {"error": {"code": 500}}), "500"),
    "openrouter": ("/chat/completions", {"choices": [{"finish_reason": "error", "error": {"code": 502}}]}, "error"),
    "openrouter stream": (
        "/chat/completions",
        events({"id": "i", "model": "m"}, {"error": {"code": 502}, "choices": [{"index": 0, "finish_reason": "error"}]}),
        "502",
    ),
    "an error as a text": ("/chat/completions", {"error": "no such model"}, "error"),
    "vllm stream": (
        "/chat/completions",
        events({"id": "i", "model": "m"}, {"object": "error", "type": "BadRequestError", "code": 400}),
        "BadRequestError",
    ),
    "minimax": ("/chat/completions", {"id": "i", "choices": None, "base_resp": {"status_code": 1004}}, "1004"),
    "responses": ("/responses", {"status": "failed", "error": {"code": "server_error"}}, "server_error"),
    "responses stream": ("/responses", events({"type": "error", "code": "rate_limit"}), "rate_limit"),
    "responses stream, no code": (
        "/responses", events({"type": "error", "error": {"type": "server_error", "code": None}}), "server_error",
    ),
    "responses stream, untyped": (
        "/responses",
        events(
            {"type": "response.created", "response": {"id": "i", "model": "m"}}, {"error": {"code": "upstream"}}
        ),
        "upstream",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_inside_an_answer(name: str) -> None:
    """The status is 200, the answer is none."""
    path, body, kind = ERRORS[name]
    found = exchange(OPENAI + path, CHAT | {"input": "x"}, body)
    assert found is not None
    assert found["error.type"] == kind


def test_success_has_a_code_too() -> None:
    """MiniMax says in each answer that there was no error."""
    found = exchange(f"{OPENAI}/chat/completions", CHAT, {"usage": USAGE, "base_resp": {"status_code": 0}})
    assert found is not None
    assert "error.type" not in found
    assert counts(found) == READ


def test_lines_of_other_providers_end_early_too() -> None:
    """Ollama counts in the last line alone."""
    asked = {"model": "m", "messages": []}
    body = lines({"model": "m", "message": {"content": "x"}, "done": False})
    assert counts(exchange("http://localhost:11434/api/chat", asked, body)) == {}
