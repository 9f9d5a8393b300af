"""A provider that answers without a network, for ``MockTransport`` of httpx and httpx2.

Wire formats: OpenAI chat completions, Responses and embeddings, Anthropic messages; each as a document or, with
``"stream": true``, as events.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived: URL path, headers with lower-case names, JSON body."""

    path: str
    headers: dict[str, str]
    body: Json


class FakeProvider:
    """Answers every LLM request with ``text`` (or what ``text(body)`` returns) and the given usage.

    Pass it as the handler: ``httpx2.MockTransport(provider)``; sync and async clients alike. ``status`` other than
    200 makes it answer with an error; all may be changed between requests. ``received`` lists what arrived.
    """

    def __init__(
        self,
        text: str | Callable[[Json], str] = "ok",
        *,
        input_tokens: int = 10,
        output_tokens: int = 5,
        status: int = 200,
    ) -> None:
        self.text = text
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.status = status
        self.received: list[Received] = []

    def __call__(self, request: Any) -> Any:
        """The response to ``request``, of the same module as the request."""
        module = sys.modules[type(request).__module__.partition(".")[0]]
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = _document(request.content)
        self.received.append(Received(request.url.path, headers, body))
        if self.status != 200:
            return module.Response(self.status, json={"error": {"type": "fake", "message": f"status {self.status}"}})
        answer = _formats(request.url.path)
        if answer is None:
            return module.Response(404, json={"error": {"type": "fake", "message": f"no answer to {request.url.path}"}})
        text = self.text if isinstance(self.text, str) else self.text(body)
        document, events = answer(_Said(body, text, self.input_tokens, self.output_tokens))
        if body.get("stream"):
            return module.Response(200, headers={"content-type": "text/event-stream"}, content=b"".join(events))
        return module.Response(200, json=document)


def _document(content: bytes) -> Json:
    """The JSON object in a request; an empty one where there is none, as in uploads."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class _Said:
    """What is to be put into a wire format."""

    body: Json
    text: str
    input: int
    output: int

    @property
    def model(self) -> str:
        return str(self.body.get("model", "fake"))


Answer = Callable[[_Said], tuple[Json, Iterator[bytes]]]


def _formats(path: str) -> Answer | None:
    ends: dict[str, Answer] = {
        "/chat/completions": _chat,
        "/responses": _responses,
        "/embeddings": _embeddings,
        "/messages": _messages,
    }
    return next((answer for end, answer in ends.items() if path.endswith(end)), None)


def _event(data: Json, name: str = "") -> bytes:
    first = f"event: {name}\n" if name else ""
    return f"{first}data: {json.dumps(data)}\n\n".encode()


def _chat(said: _Said) -> tuple[Json, Iterator[bytes]]:
    usage = {
        "prompt_tokens": said.input,
        "completion_tokens": said.output,
        "total_tokens": said.input + said.output,
    }
    head = {"id": "chatcmpl-fake", "created": 0, "model": said.model}
    message = {"role": "assistant", "content": said.text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}

    def events() -> Iterator[bytes]:
        chunk = {**head, "object": "chat.completion.chunk"}
        yield _event({**chunk, "choices": [{"index": 0, "delta": message, "finish_reason": None}]})
        yield _event({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (said.body.get("stream_options") or {}).get("include_usage"):
            yield _event({**chunk, "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}, events()


def _responses(said: _Said) -> tuple[Json, Iterator[bytes]]:
    content = {"type": "output_text", "text": said.text, "annotations": []}
    item = {"id": "msg_fake", "type": "message", "role": "assistant", "status": "completed", "content": [content]}
    document = {
        "id": "resp_fake",
        "object": "response",
        "created_at": 0,
        "model": said.model,
        "status": "completed",
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": said.input,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": said.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": said.input + said.output,
        },
    }

    return document, _response_events(document)


def _response_events(document: Json) -> Iterator[bytes]:
    """All that the SDK's own ``responses.stream()`` insists on."""
    [item] = document["output"]
    [content] = item["content"]
    text, place = content["text"], {"item_id": item["id"], "output_index": 0, "content_index": 0}
    events: tuple[tuple[str, Json], ...] = (
        ("created", {"response": {**document, "status": "in_progress", "output": [], "usage": None}}),
        ("output_item.added", {"output_index": 0, "item": {**item, "status": "in_progress", "content": []}}),
        ("content_part.added", {**place, "part": {**content, "text": ""}}),
        ("output_text.delta", {**place, "delta": text, "logprobs": []}),
        ("output_text.done", {**place, "text": text, "logprobs": []}),
        ("content_part.done", {**place, "part": content}),
        ("output_item.done", {"output_index": 0, "item": item}),
        ("completed", {"response": document}),
    )
    for number, (kind, fields) in enumerate(events):
        name = f"response.{kind}"
        yield _event({"type": name, **fields, "sequence_number": number}, name)


def _embeddings(said: _Said) -> tuple[Json, Iterator[bytes]]:
    given = said.body.get("input")
    number = len(given) if isinstance(given, list) else 1
    data = [{"object": "embedding", "index": index, "embedding": [0.0, 1.0]} for index in range(number)]
    usage = {"prompt_tokens": said.input, "total_tokens": said.input}
    return {"object": "list", "model": said.model, "data": data, "usage": usage}, iter(())


def _messages(said: _Said) -> tuple[Json, Iterator[bytes]]:
    usage = {"input_tokens": said.input, "output_tokens": said.output}
    message = {"id": "msg_fake", "type": "message", "role": "assistant", "model": said.model}
    document = {
        **message,
        "content": [{"type": "text", "text": said.text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }

    def events() -> Iterator[bytes]:
        begun = {**document, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        for data in (
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": said.text}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": delta, "usage": {"output_tokens": said.output}},
            {"type": "message_stop"},
        ):
            yield _event(data, str(data["type"]))

    return document, events()
