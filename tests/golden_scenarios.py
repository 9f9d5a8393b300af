"""What ``golden_agent.py`` does: exchanges with the server on loopback, through real SDKs and frameworks.

A scenario yields the name of each exchange and what makes it: one LLM call, also where a framework is around it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

Exchange = tuple[str, Callable[[], Any]]
NO_MODEL = "no-such-model"
QUESTION = [{"role": "user", "content": "hello"}]


async def _read(stream: Awaitable[Any]) -> None:
    async for _ in await stream:
        pass


def _drain(stream: Any) -> None:
    for _ in stream:
        pass


def openai(url: str, module: str = "openai") -> Iterator[Exchange]:
    sdk = import_module(module)
    sync, later = (kind(api_key="k", base_url=f"{url}/v1", max_retries=0) for kind in (sdk.OpenAI, sdk.AsyncOpenAI))
    asked: dict[str, Any] = {"model": "gpt-4o", "messages": QUESTION}
    streamed = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    yield "chat", lambda: sync.chat.completions.create(**asked)
    yield "chat-stream", lambda: _drain(sync.chat.completions.create(**streamed))
    yield "chat-async", lambda: asyncio.run(later.chat.completions.create(**asked))
    yield "chat-async-stream", lambda: asyncio.run(_read(later.chat.completions.create(**streamed)))
    yield "responses", lambda: sync.responses.create(model="gpt-4o", input="hello")
    yield "responses-stream", lambda: _drain(sync.responses.create(model="gpt-4o", input="hello", stream=True))
    yield "embeddings", lambda: sync.embeddings.create(model="text-embedding-3-small", input="hello")
    yield "error", lambda: sync.chat.completions.create(model=NO_MODEL, messages=QUESTION)


def _claude(sync: Any, later: Any, model: str) -> Iterator[Exchange]:
    asked: dict[str, Any] = {"model": model, "max_tokens": 9, "messages": QUESTION}
    yield "messages", lambda: sync.messages.create(**asked)
    yield "messages-stream", lambda: _drain(sync.messages.create(**asked, stream=True))
    yield "messages-async", lambda: asyncio.run(later.messages.create(**asked))
    yield "messages-async-stream", lambda: asyncio.run(_read(later.messages.create(**asked, stream=True)))
    yield "error", lambda: sync.messages.create(**{**asked, "model": NO_MODEL})


def anthropic(url: str) -> Iterator[Exchange]:
    sdk = import_module("anthropic")
    sync, later = (kind(api_key="k", base_url=url, max_retries=0) for kind in (sdk.Anthropic, sdk.AsyncAnthropic))
    yield from _claude(sync, later, "claude-sonnet-4-5")


def anthropic_bedrock(url: str) -> Iterator[Exchange]:
    sdk = import_module("anthropic")
    kinds = (sdk.AnthropicBedrock, sdk.AsyncAnthropicBedrock)
    sync, later = (kind(aws_region="us-east-1", base_url=url, max_retries=0) for kind in kinds)
    yield from _claude(sync, later, "anthropic.claude-sonnet-4-5-20250929-v1:0")


def google(url: str) -> Iterator[Exchange]:
    client = import_module("google.genai").Client(api_key="k", http_options={"base_url": url})
    sync, later = client.models, client.aio.models
    asked = {"model": "gemini-2.5-flash", "contents": "hello"}
    yield "generate", lambda: sync.generate_content(**asked)
    yield "generate-stream", lambda: _drain(sync.generate_content_stream(**asked))
    yield "generate-async", lambda: asyncio.run(later.generate_content(**asked))
    yield "generate-async-stream", lambda: asyncio.run(_read(later.generate_content_stream(**asked)))
    yield "error", lambda: sync.generate_content(model=NO_MODEL, contents="hello")


def mistral(url: str) -> Iterator[Exchange]:
    client = import_module("mistralai.client").Mistral(api_key="k", server_url=url)
    asked: dict[str, Any] = {"model": "mistral-large-latest", "messages": QUESTION}
    yield "chat", lambda: client.chat.complete(**asked)
    yield "chat-stream", lambda: _drain(client.chat.stream(**asked))
    yield "chat-async", lambda: asyncio.run(client.chat.complete_async(**asked))
    yield "chat-async-stream", lambda: asyncio.run(_read(client.chat.stream_async(**asked)))
    yield "error", lambda: client.chat.complete(model=NO_MODEL, messages=QUESTION)


def groq(url: str) -> Iterator[Exchange]:
    sdk = import_module("groq")
    sync, later = (kind(api_key="k", base_url=url, max_retries=0) for kind in (sdk.Groq, sdk.AsyncGroq))
    asked: dict[str, Any] = {"model": "llama-3.3-70b-versatile", "messages": QUESTION}
    yield "chat", lambda: sync.chat.completions.create(**asked)
    yield "chat-stream", lambda: _drain(sync.chat.completions.create(**asked, stream=True))
    yield "chat-async", lambda: asyncio.run(later.chat.completions.create(**asked))
    yield "chat-async-stream", lambda: asyncio.run(_read(later.chat.completions.create(**asked, stream=True)))
    yield "error", lambda: sync.chat.completions.create(model=NO_MODEL, messages=QUESTION)


def bedrock(url: str) -> Iterator[Exchange]:
    config = import_module("botocore.config").Config(retries={"total_max_attempts": 1})
    client = import_module("boto3").client("bedrock-runtime", endpoint_url=url, config=config)
    model = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    asked = {"modelId": model, "messages": [{"role": "user", "content": [{"text": "hello"}]}]}
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": QUESTION})
    yield "converse", lambda: client.converse(**asked)
    yield "converse-stream", lambda: _drain(client.converse_stream(**asked)["stream"])
    yield "invoke", lambda: client.invoke_model(modelId=model, body=body)["body"].read()  # noqa: PLW0108 - not yet
    yield "invoke-stream", lambda: _drain(client.invoke_model_with_response_stream(modelId=model, body=body)["body"])
    yield "error", lambda: client.converse(**{**asked, "modelId": NO_MODEL})


def langchain(url: str) -> Iterator[Exchange]:
    prompts: Any = import_module("langchain_core.prompts")
    kind = import_module("langchain_openai").ChatOpenAI
    model = kind(model="gpt-4o", api_key="k", base_url=f"{url}/v1", max_retries=0, stream_usage=True)
    chain = prompts.ChatPromptTemplate.from_messages([("human", "{text}")]) | model
    asked = {"text": "hello"}
    yield "chat", lambda: chain.invoke(asked)
    yield "chat-stream", lambda: _drain(chain.stream(asked))
    yield "chat-async", lambda: asyncio.run(chain.ainvoke(asked))
    yield "error", lambda: kind(model=NO_MODEL, api_key="k", base_url=f"{url}/v1", max_retries=0).invoke("hello")


def pydantic_ai(url: str) -> Iterator[Exchange]:
    agents: Any = import_module("pydantic_ai")
    provider = import_module("pydantic_ai.providers.openai").OpenAIProvider(api_key="k", base_url=f"{url}/v1")
    model = import_module("pydantic_ai.models.openai").OpenAIChatModel
    agent = agents.Agent(model("gpt-4o", provider=provider), name="helper")

    async def streamed() -> None:
        async with agent.run_stream("hello") as result:
            await result.get_output()

    yield "chat", lambda: agent.run_sync("hello")
    yield "chat-async", lambda: asyncio.run(agent.run("hello"))
    yield "chat-async-stream", lambda: asyncio.run(streamed())
    yield "error", lambda: agents.Agent(model(NO_MODEL, provider=provider)).run_sync("hello")


def litellm(url: str) -> Iterator[Exchange]:
    sdk = import_module("litellm")
    asked: dict[str, Any] = {"model": "openai/gpt-4o", "messages": QUESTION, "api_key": "k", "api_base": f"{url}/v1"}
    streamed = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    yield "chat", lambda: sdk.completion(**asked)
    yield "chat-stream", lambda: _drain(sdk.completion(**streamed))
    yield "chat-async", lambda: asyncio.run(_settled(sdk.acompletion(**asked)))
    yield "error", lambda: sdk.completion(**{**asked, "model": f"openai/{NO_MODEL}", "num_retries": 0})


async def _settled(call: Awaitable[Any]) -> None:
    await call
    await asyncio.sleep(0.5)  # its callbacks run in tasks of the same loop


def strands(url: str) -> Iterator[Exchange]:
    sdk: Any = import_module("strands")
    kind = import_module("strands.models.openai").OpenAIModel
    client = {"api_key": "k", "base_url": f"{url}/v1", "max_retries": 0}

    def agent(model: str) -> Any:
        return sdk.Agent(model=kind(client_args=client, model_id=model), callback_handler=None, name="helper")

    yield "chat-stream", lambda: agent("gpt-4o")("hello")
    yield "chat-async-stream", lambda: asyncio.run(agent("gpt-4o").invoke_async("hello"))
    yield "error", lambda: agent(NO_MODEL)("hello")


def openai_agents(url: str) -> Iterator[Exchange]:
    sdk: Any = import_module("agents")
    client = import_module("openai").AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0)

    def agent(model: str, kind: str = "OpenAIChatCompletionsModel") -> Any:
        return sdk.Agent(name="helper", model=getattr(sdk, kind)(model=model, openai_client=client))

    yield "chat", lambda: sdk.Runner.run_sync(agent("gpt-4o"), "hello")
    yield "responses", lambda: sdk.Runner.run_sync(agent("gpt-4o", "OpenAIResponsesModel"), "hello")
    yield "error", lambda: sdk.Runner.run_sync(agent(NO_MODEL), "hello")


def semantic_kernel(url: str) -> Iterator[Exchange]:
    openai = import_module("openai")
    parts: Any = import_module("semantic_kernel.connectors.ai.open_ai")
    history = import_module("semantic_kernel.contents").ChatHistory()
    history.add_user_message("hello")
    settings = parts.OpenAIChatPromptExecutionSettings()

    def service(model: str) -> Any:
        client = openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0)
        return parts.OpenAIChatCompletion(ai_model_id=model, async_client=client)

    async def streamed() -> None:
        async for _ in service("gpt-4o").get_streaming_chat_message_content(history, settings):
            pass

    yield "chat-async", lambda: asyncio.run(service("gpt-4o").get_chat_message_content(history, settings))
    yield "chat-async-stream", lambda: asyncio.run(streamed())
    yield "error", lambda: asyncio.run(service(NO_MODEL).get_chat_message_content(history, settings))


def adk(url: str) -> Iterator[Exchange]:
    agents, runners = (import_module(f"google.adk.{part}") for part in ("agents", "runners"))
    types = import_module("google.genai.types")
    gemini = import_module("google.adk.models.google_llm").Gemini

    async def ask(model: str) -> None:
        agent = agents.Agent(name="helper", model=gemini(model=model, base_url=url))
        runner = runners.InMemoryRunner(agent=agent, app_name="app")
        talk = await runner.session_service.create_session(app_name="app", user_id="u")
        question = types.Content(role="user", parts=[types.Part(text="hello")])
        async for _ in runner.run_async(user_id="u", session_id=talk.id, new_message=question):
            pass

    yield "generate-async", lambda: asyncio.run(ask("gemini-2.5-flash"))
    yield "error", lambda: asyncio.run(ask(NO_MODEL))


SCENARIOS: dict[str, tuple[Callable[[str], Iterator[Exchange]], str]] = {
    "openai": (openai, "openai"), "anthropic": (anthropic, "anthropic"), "google": (google, "gcp.gemini"),
    "mistral": (mistral, "mistral_ai"), "groq": (groq, "groq"), "bedrock": (bedrock, "aws.bedrock"),
    "anthropic-bedrock": (anthropic_bedrock, "aws.bedrock"), "langchain": (langchain, "openai"),
    "pydantic-ai": (pydantic_ai, "openai"), "langfuse": (partial(openai, module="langfuse.openai"), "openai"),
    "litellm": (litellm, "openai"), "strands": (strands, "openai"), "openai-agents": (openai_agents, "openai"),
    "semantic-kernel": (semantic_kernel, "openai"), "adk": (adk, "gcp.gemini"),
}  # fmt: skip
"""Exchanges, and the provider that the server plays."""
