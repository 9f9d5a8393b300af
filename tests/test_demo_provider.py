"""The loopback provider, asked by the real SDKs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from openai.types.chat import ChatCompletionMessageParam

from otel_sessions.demo import Exchange, Provider, clients_for
from otel_sessions.demo.clients import AsyncClients, Clients

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Draft an answer"}]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture
def sync(provider: Provider) -> Iterator[Clients]:
    made, _ = clients_for(provider.port)
    with made:
        yield made


@pytest.fixture
def aio(provider: Provider) -> AsyncClients:
    return clients_for(provider.port)[1]


def test_a_chat_completion_has_the_usage_that_was_logged(provider: Provider, sync: Clients) -> None:
    """What the SDK parses is what the provider says it sent."""
    completion = sync.openai.chat.completions.create(model="gpt-6-luna", messages=MESSAGES)
    assert (completion.choices[0].message.content or "").startswith("Hello")
    assert completion.usage is not None
    assert provider.exchanges == [
        Exchange(
            "api.openai.com", "/v1/chat/completions", "gpt-6-luna-2026-08-12", 200, False, completion.usage.to_dict()
        )
    ]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_chat_stream_has_usage_only_if_asked(provider: Provider, sync: Clients, wanted: bool) -> None:  # noqa: FBT001
    """As with the real one, ``include_usage`` adds a last chunk with usage and no choice."""
    stream = sync.openai.chat.completions.create(
        model="gpt-6-luna",
        messages=MESSAGES,
        stream=True,
        stream_options={"include_usage": wanted},
    )
    chunks = list(stream)
    usages = [chunk.usage.to_dict() for chunk in chunks if chunk.usage is not None]
    assert usages == ([provider.exchanges[0].usage] if wanted else [])
    assert any(chunk.choices and chunk.choices[0].finish_reason == "stop" for chunk in chunks)


def test_an_anthropic_stream_ends_with_the_output_tokens(provider: Provider, sync: Clients) -> None:
    """The SDK's accumulated message has the usage of both ends of the stream."""
    with sync.anthropic.messages.stream(
        model="claude-sonnet-5-5", max_tokens=100, messages=[{"role": "user", "content": "Draft it"}]
    ) as stream:
        message = stream.get_final_message()
    sent = provider.exchanges[0].usage or {}
    assert (message.usage.input_tokens, message.usage.output_tokens) == (sent["input_tokens"], sent["output_tokens"])
    assert message.stop_reason == "end_turn"


def test_a_reasoning_answer_counts_its_reasoning(provider: Provider, sync: Clients) -> None:
    """Reasoning tokens are part of the output tokens."""
    answer = sync.openai.responses.create(model="gpt-6-sol", reasoning={"effort": "low"}, input="Correct it")
    assert answer.usage is not None
    assert 0 < answer.usage.output_tokens_details.reasoning_tokens < answer.usage.output_tokens
    assert [item.type for item in answer.output] == ["reasoning", "message"]


async def test_the_first_embedding_is_refused_and_the_sdk_tries_again(provider: Provider, aio: AsyncClients) -> None:
    """One 429 with a short delay; the second attempt answers, and later ones are not refused."""
    async with aio:
        for _ in range(2):
            created = await aio.openai.embeddings.create(model="text-embedding-3-small", input="x" * 40)
    assert created.usage.prompt_tokens == 17
    assert [(exchange.status, exchange.usage is None) for exchange in provider.exchanges] == [
        (429, True),
        (200, False),
        (200, False),
    ]


async def test_groq_streams_its_own_usage(provider: Provider, aio: AsyncClients) -> None:
    """Groq's last chunk has usage under a key of its own; the request came over httpx."""
    async with aio:
        stream = await aio.groq.chat.completions.create(
            model="llama-3.3-70b-versatile", messages=[{"role": "user", "content": "Summarise"}], stream=True
        )
        chunks = [chunk async for chunk in stream]
    own = chunks[-1].x_groq
    assert own is not None
    assert own.usage is not None
    assert own.usage.total_tokens == (provider.exchanges[0].usage or {})["total_tokens"]
    assert provider.exchanges[0].host == "api.groq.com"


def test_exchanges_are_told_as_they_happen() -> None:
    """``on_exchange`` is called for each, in the server's thread."""
    told: list[tuple[str, str]] = []
    with Provider(
        on_exchange=lambda exchange: told.append((exchange.model, threading.current_thread().name))
    ) as provider:
        sync, _ = clients_for(provider.port)
        with sync:
            sync.openai.responses.create(model="gpt-6-sol", input="x")
    assert told == [("gpt-6-sol-2026-08-12", "otel-sessions-demo-provider")]


def test_the_same_run_costs_the_same() -> None:
    """Ids and usage follow from the request alone."""
    seen = []
    for _ in range(2):
        with Provider() as provider:
            sync, _ = clients_for(provider.port)
            with sync:
                seen.append(sync.openai.responses.create(model="gpt-6-sol", input="Correct it").to_dict())
    assert seen[0] == seen[1]
