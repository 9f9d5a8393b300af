"""What OpenAI, Anthropic and Groq send: whole documents, and the events of streams.

The text of an answer follows from the prompt, the token counts from the lengths of both. So every run costs the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ANSWERS = {
    "Classify": "billing",
    "Which rule": "Rule for Premium in Germany: a duplicate charge is refunded in full to the original card.",
    "Quote": "“Duplicate charges are refunded in full to the original card within 5 working days.”",
    "Summarise": "The customer has been on Premium for 26 months. One earlier billing ticket, solved on the same day.",
    "Draft": "Hello, and thank you for telling us. You were indeed charged twice in November. We have refunded the "
    "second charge in full to your card, at the rate of the day it was made. It arrives within 5 working days. "
    "We are sorry for the trouble.",
    "Correct": "Hello, thank you for telling us. You were charged twice in November; the second charge, 23.80 EUR, is "
    "refunded to your card at the rate of the day it was made and arrives within 5 working days.",
    "Write a subject": "Your second November charge is refunded",
}
_MODELS = {"gpt-6-luna": "gpt-6-luna-2026-08-12", "gpt-6-sol": "gpt-6-sol-2026-08-12"}
_DIMENSIONS = 16

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says to one request.

    ``cached`` and ``written`` are the parts of ``tokens_in`` that the provider's prompt cache served and stored;
    ``reasoning`` is part of ``tokens_out``.
    """

    id: str
    model: str
    text: str
    tokens_in: int
    tokens_out: int
    cached: int = 0
    written: int = 0
    reasoning: int = 0


def answer(request: Mapping[str, Any], cache: set[str]) -> Answer:
    """The answer to ``request``; ``cache`` remembers the long prompts that were seen before."""
    prompt = _texts(request.get("messages") or request.get("input") or "")
    system = _texts(request.get("system") or "")
    said = next((text for key, text in _ANSWERS.items() if key in prompt), "Understood.")
    reasoning = 4 * _tokens(said) if "reasoning" in request else 0
    stored = _tokens(system) if "cache_control" in json.dumps(request.get("system") or "") else 0
    known = system in cache
    if stored:
        cache.add(system)
    return Answer(
        id=hashlib.sha256((system + prompt).encode()).hexdigest()[:24],
        model=_MODELS.get(request["model"], request["model"]),
        text=said,
        tokens_in=_tokens(system) + _tokens(prompt) + 7,
        tokens_out=_tokens(said) + reasoning,
        cached=stored if known else 0,
        written=0 if known else stored,
        reasoning=reasoning,
    )


def _texts(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return "\n".join(_texts(item) for item in value)
    if isinstance(value, Mapping):
        return _texts(value.get("content") or value.get("text") or "")
    return ""


def _tokens(text: str) -> int:
    return math.ceil(len(text) / 4)


def chat_usage(said: Answer) -> Json:
    """OpenAI's ``usage``: the totals include what is cached and what is reasoning."""
    return {
        "prompt_tokens": said.tokens_in,
        "completion_tokens": said.tokens_out,
        "total_tokens": said.tokens_in + said.tokens_out,
        "prompt_tokens_details": {"cached_tokens": said.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": said.reasoning, "audio_tokens": 0},
    }


def groq_usage(said: Answer) -> Json:
    """Groq's ``usage``, with the times it spent."""
    return {
        "queue_time": 0.0011,
        "prompt_tokens": said.tokens_in,
        "prompt_time": 0.0021,
        "completion_tokens": said.tokens_out,
        "completion_time": 0.0312,
        "total_tokens": said.tokens_in + said.tokens_out,
        "total_time": 0.0333,
    }


def messages_usage(said: Answer) -> Json:
    """Anthropic's ``usage``: ``input_tokens`` leaves out what the cache served and stored."""
    return {
        "input_tokens": said.tokens_in - said.cached - said.written,
        "cache_creation_input_tokens": said.written,
        "cache_read_input_tokens": said.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": said.written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": said.tokens_out,
        "service_tier": "standard",
    }


def responses_usage(said: Answer) -> Json:
    """``usage`` of OpenAI's Responses."""
    return {
        "input_tokens": said.tokens_in,
        "input_tokens_details": {"cached_tokens": said.cached},
        "output_tokens": said.tokens_out,
        "output_tokens_details": {"reasoning_tokens": said.reasoning},
        "total_tokens": said.tokens_in + said.tokens_out,
    }


def chat(said: Answer) -> Json:
    """A chat completion."""
    message: Json = {"role": "assistant", "content": said.text, "refusal": None, "annotations": []}
    return {
        **_chat_head(said, "chat.completion"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": chat_usage(said),
    }


def chat_stream(said: Answer, tail: Sequence[Json]) -> Iterator[str]:
    """A chat completion as server-sent events; ``tail`` is what the last chunks add to the common fields."""
    head = _chat_head(said, "chat.completion.chunk")
    deltas: list[Json] = [{"role": "assistant", "content": ""}, *({"content": word} for word in _words(said.text))]
    for delta in deltas:
        yield _data({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    for last in tail:
        yield _data({**head, **last})
    yield "data: [DONE]\n\n"


def openai_tail(said: Answer, *, include_usage: bool) -> list[Json]:
    """OpenAI sends usage in a chunk of its own, if it was asked for."""
    finish: Json = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return [finish, {"choices": [], "usage": chat_usage(said)}] if include_usage else [finish]


def groq_tail(said: Answer) -> list[Json]:
    """Groq sends usage with the finish reason, asked or not."""
    own = {"id": f"req_{said.id}", "usage": groq_usage(said)}
    return [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "x_groq": own}]


def _chat_head(said: Answer, kind: str) -> Json:
    return {"id": f"chatcmpl-{said.id}", "object": kind, "created": 1795358400, "model": said.model}


def responses(said: Answer) -> Json:
    """A response of OpenAI's Responses, with a reasoning item where the model reasoned."""
    content = [{"type": "output_text", "text": said.text, "annotations": []}]
    message = {
        "type": "message",
        "id": f"msg_{said.id}",
        "status": "completed",
        "role": "assistant",
        "content": content,
    }
    thought = [{"type": "reasoning", "id": f"rs_{said.id}", "summary": []}] if said.reasoning else []
    return {
        "id": f"resp_{said.id}",
        "object": "response",
        "created_at": 1795358400,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": said.model,
        "output": [*thought, message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": responses_usage(said),
    }


def embeddings(said: Answer) -> Json:
    """One embedding, of fewer dimensions than the real one has."""
    digest = hashlib.sha256(said.id.encode()).digest()
    vector = [byte / 128 - 1 for byte in digest[:_DIMENSIONS]]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": vector}],
        "model": said.model,
        "usage": {"prompt_tokens": said.tokens_in, "total_tokens": said.tokens_in},
    }


def messages(said: Answer) -> Json:
    """An Anthropic message."""
    return {
        **_message_head(said),
        "content": [{"type": "text", "text": said.text}],
        "stop_reason": "end_turn",
        "usage": messages_usage(said),
    }


def messages_stream(said: Answer) -> Iterator[str]:
    """An Anthropic message as server-sent events: the input's usage comes first, the output's last."""
    start = {
        **_message_head(said),
        "content": [],
        "stop_reason": None,
        "usage": messages_usage(said) | {"output_tokens": 1},
    }
    yield _event("message_start", message=start)
    yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield _event("ping")
    for word in _words(said.text):
        yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
    yield _event("content_block_stop", index=0)
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    yield _event("message_delta", delta=stop, usage={"output_tokens": said.tokens_out})
    yield _event("message_stop")


def _message_head(said: Answer) -> Json:
    return {"id": f"msg_{said.id}", "type": "message", "role": "assistant", "model": said.model, "stop_sequence": None}


def _words(text: str) -> list[str]:
    words = text.split(" ")
    return [" ".join(words[at : at + 3]) + (" " if at + 3 < len(words) else "") for at in range(0, len(words), 3)]


def _data(document: Json) -> str:
    return f"data: {json.dumps(document)}\n\n"


def _event(kind: str, **fields: Any) -> str:
    return f"event: {kind}\n{_data({'type': kind, **fields})}"
