"""The SDKs' clients as they are, except that their connections end at the loopback provider.

The base URLs stay those of OpenAI, Anthropic and Groq, so that what is recorded looks like production. The keys
are made up, and proxies from the environment are ignored: nothing leaves the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
import httpx2
from anthropic import Anthropic, AsyncAnthropic
from groq import AsyncGroq
from openai import AsyncOpenAI, OpenAI

_KEY = "demo-key-that-is-never-sent-anywhere"


@dataclass(frozen=True, slots=True)
class Clients:
    """The sync clients; a context manager that closes them."""

    openai: OpenAI
    anthropic: Anthropic

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.openai.close()
        self.anthropic.close()


@dataclass(frozen=True, slots=True)
class AsyncClients:
    """The async clients; a context manager that closes them on the loop that used them. Groq's SDK is on httpx."""

    openai: AsyncOpenAI
    anthropic: AsyncAnthropic
    groq: AsyncGroq

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.openai.close()
        await self.anthropic.close()
        await self.groq.close()


def clients_for(port: int) -> tuple[Clients, AsyncClients]:
    """Clients of every kind whose requests go to ``port`` on loopback."""
    sync = httpx2.Client(transport=_Loopback(port), trust_env=False)
    aio = httpx2.AsyncClient(transport=_AsyncLoopback(port), trust_env=False)
    groq = httpx.AsyncClient(transport=_GroqLoopback(port), trust_env=False)
    openai_url, anthropic_url, groq_url = (f"https://api.{name}.com" for name in ("openai", "anthropic", "groq"))
    return (
        Clients(
            openai=OpenAI(api_key=_KEY, base_url=f"{openai_url}/v1", http_client=sync),
            anthropic=Anthropic(api_key=_KEY, base_url=anthropic_url, http_client=sync),
        ),
        AsyncClients(
            openai=AsyncOpenAI(api_key=_KEY, base_url=f"{openai_url}/v1", http_client=aio),
            anthropic=AsyncAnthropic(api_key=_KEY, base_url=anthropic_url, http_client=aio),
            groq=AsyncGroq(api_key=_KEY, base_url=groq_url, http_client=groq),
        ),
    )


def _route(request: Any, port: int) -> Any:
    """Aim ``request`` at the provider; its Host header keeps the name that it was meant for."""
    request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=port)
    return request


class _Loopback(httpx2.HTTPTransport):
    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return super().handle_request(_route(request, self._port))


class _AsyncLoopback(httpx2.AsyncHTTPTransport):
    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await super().handle_async_request(_route(request, self._port))


class _GroqLoopback(httpx.AsyncHTTPTransport):
    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await super().handle_async_request(_route(request, self._port))
