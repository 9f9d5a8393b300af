"""A server on loopback that answers like OpenAI, Anthropic, Gemini, Mistral, Groq and Bedrock; standard library alone.

It stands behind the real SDKs, in environments that have nothing of this package. What it answers is always the same:
``USAGE`` of the wire format says what it cost. A model called ``no-such-model`` is refused with 404.
"""

from __future__ import annotations

import base64
import itertools
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from zlib import crc32

Json = dict[str, Any]

OPENAI_USAGE: Json = {
    "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 40}, "completion_tokens_details": {"reasoning_tokens": 7},
}  # fmt: skip
RESPONSES_USAGE: Json = {
    "input_tokens": 100, "output_tokens": 20, "total_tokens": 120,
    "input_tokens_details": {"cached_tokens": 40}, "output_tokens_details": {"reasoning_tokens": 7},
}  # fmt: skip
CLAUDE_USAGE: Json = {
    "input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 30,
}  # fmt: skip
GEMINI_USAGE: Json = {
    "promptTokenCount": 100, "cachedContentTokenCount": 40, "candidatesTokenCount": 13, "thoughtsTokenCount": 7,
    "totalTokenCount": 120,
}  # fmt: skip
CONVERSE_USAGE: Json = {
    "inputTokens": 10, "outputTokens": 20, "totalTokens": 110, "cacheReadInputTokens": 50, "cacheWriteInputTokens": 30,
}  # fmt: skip
ANSWERED_BY = {"gpt-4o": "gpt-4o-2024-08-06", "claude-sonnet-4-5": "claude-sonnet-4-5-20250929"}
Answer = tuple[str, bytes]
_numbers = itertools.count(1)


def _document(body: Json) -> Answer:
    return "application/json", json.dumps(body).encode()


def _events(parts: list[Json], *, named: bool = False, done: bool = False) -> Answer:
    lines = [(f"event: {part['type']}\n" if named else "") + f"data: {json.dumps(part)}\n\n" for part in parts]
    return "text/event-stream", ("".join(lines) + ("data: [DONE]\n\n" if done else "")).encode()


def _chat(body: Json, _: str) -> Answer:
    head = {"id": f"chatcmpl-{next(_numbers)}", "created": 1, "model": ANSWERED_BY.get(body["model"], body["model"])}
    message = {"role": "assistant", "content": "hi"}
    if not body.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return _document({**head, "object": "chat.completion", "choices": [choice], "usage": OPENAI_USAGE})
    chunk = {**head, "object": "chat.completion.chunk"}
    begun = {**chunk, "choices": [{"index": 0, "delta": message, "finish_reason": None}]}
    stop = {"index": 0, "delta": {}, "finish_reason": "stop"}
    if (body.get("stream_options") or {}).get("include_usage"):
        return _events(
            [begun, {**chunk, "choices": [stop]}, {**chunk, "choices": [], "usage": OPENAI_USAGE}], done=True
        )
    # Mistral and Groq send the usage with the last chunk, unasked.
    return _events([begun, {**chunk, "choices": [stop], "usage": OPENAI_USAGE}], done=True)


def _responses(body: Json, _: str) -> Answer:
    text = {"type": "output_text", "text": "hi", "annotations": []}
    said = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    document = {
        "id": f"resp_{next(_numbers)}", "object": "response", "created_at": 1, "status": "completed", "output": [said],
        "model": ANSWERED_BY.get(body["model"], body["model"]), "parallel_tool_calls": True, "tool_choice": "auto",
        "tools": [], "usage": RESPONSES_USAGE,
    }  # fmt: skip
    if not body.get("stream"):
        return _document(document)
    begun = {**document, "status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    item = {**said, "content": [], "status": "in_progress"}
    parts: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": {**text, "text": ""}},
        {"type": "response.output_text.delta", **place, "delta": "hi", "logprobs": []},
        {"type": "response.output_text.done", **place, "text": "hi", "logprobs": []},
        {"type": "response.output_item.done", "output_index": 0, "item": said},
        {"type": "response.completed", "response": document},
    ]
    return _events([{**part, "sequence_number": at} for at, part in enumerate(parts)], named=True)


def _embeddings(body: Json, _: str) -> Answer:
    data = [{"object": "embedding", "index": 0, "embedding": [0.0, 1.0]}]
    usage = {"prompt_tokens": 100, "total_tokens": 100}
    return _document({"object": "list", "model": body["model"], "data": data, "usage": usage})


def _claude(body: Json) -> Json:
    model = str(body.get("model", "claude-sonnet-4-5"))
    return {
        "id": f"msg_{next(_numbers)}", "type": "message", "role": "assistant", "model": ANSWERED_BY.get(model, model),
        "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": CLAUDE_USAGE,
    }  # fmt: skip


def _claude_events(message: Json) -> list[Json]:
    begun = {**message, "content": [], "stop_reason": None, "usage": {**CLAUDE_USAGE, "output_tokens": 1}}
    return [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 20},
        },
        {"type": "message_stop"},
    ]


def _messages(body: Json, _: str) -> Answer:
    message = _claude(body)
    return _events(_claude_events(message), named=True) if body.get("stream") else _document(message)


def _gemini(body: Json, path: str) -> Answer:
    candidate = {"content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP", "index": 0}
    model = path.rsplit("/", 1)[-1].partition(":")[0]
    document = {
        "candidates": [candidate], "usageMetadata": GEMINI_USAGE, "modelVersion": model,
        "responseId": f"gemini-{next(_numbers)}",
    }  # fmt: skip
    return _events([document]) if "stream" in path else _document(document)


def _message(payload: Json, **headers: str) -> bytes:
    """A message of an AWS event stream."""
    named = b"".join(
        bytes([len(name) + 1]) + b":" + name.replace("_", "-").encode() + b"\7" + struct.pack(">H", len(value)) + value
        for name, value in ((name, text.encode()) for name, text in headers.items())
    )
    data = json.dumps(payload).encode()
    prelude = struct.pack(">II", len(named) + len(data) + 16, len(named))
    whole = prelude + struct.pack(">I", crc32(prelude)) + named + data
    return whole + struct.pack(">I", crc32(whole))


def _aws(parts: list[tuple[str, Json]]) -> Answer:
    messages = (_message(part, event_type=kind, content_type="application/json", message_type="event") for kind, part in parts)  # fmt: skip
    return "application/vnd.amazon.eventstream", b"".join(messages)


def _converse(body: Json, path: str) -> Answer:
    if path.endswith("-stream"):
        return _aws(
            [
                ("messageStart", {"role": "assistant"}),
                ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "hi"}}),
                ("contentBlockStop", {"contentBlockIndex": 0}),
                ("messageStop", {"stopReason": "end_turn"}),
                ("metadata", {"usage": CONVERSE_USAGE, "metrics": {"latencyMs": 5}}),
            ]
        )
    message = {"role": "assistant", "content": [{"text": "hi"}]}
    return _document({
        "output": {"message": message}, "stopReason": "end_turn", "usage": CONVERSE_USAGE, "metrics": {"latencyMs": 5},
    })  # fmt: skip


def _invoke(body: Json, path: str) -> Answer:
    message = _claude({})
    if not path.endswith("-stream"):
        return _document(message)
    return _aws(
        [
            ("chunk", {"bytes": base64.b64encode(json.dumps(event).encode()).decode()})
            for event in _claude_events(message)
        ]
    )


_ANSWERS: dict[str, Callable[[Json, str], Answer]] = {
    "/chat/completions": _chat, "/responses": _responses, "/embeddings": _embeddings, "/messages": _messages,
    ":generateContent": _gemini, ":streamGenerateContent": _gemini,
    "/converse": _converse, "/converse-stream": _converse, "/invoke": _invoke, "/invoke-with-response-stream": _invoke,
}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.partition("?")[0].replace("%3A", ":")
        answer = next((answer for end, answer in _ANSWERS.items() if path.endswith(end)), None)
        if answer is None:
            self._send(200, "application/json", b'{"token": "t", "project_id": "p"}')  # what products send home
        elif b"no-such-model" in raw or "no-such-model" in path:
            message = {"message": "no such model", "type": "not_found_error", "code": 404, "status": "NOT_FOUND"}
            self._send(404, *_document({"type": "error", "error": message, "message": "no such model"}))
        else:
            self._send(200, *answer(json.loads(raw), path))

    def do_GET(self) -> None:
        self.do_POST()

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    """The server's URL while it runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
