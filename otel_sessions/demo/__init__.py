"""``otel-sessions demo``: a support agent on the real SDKs, against a provider that answers on loopback.

agent     the agent, written as a user of this package would write it
clients   the SDKs' clients, routed to the loopback provider
provider  the server: waits, retries, streams
wire      what OpenAI, Anthropic and Groq send, as documents and stream events
"""

from otel_sessions.demo.agent import run
from otel_sessions.demo.clients import clients_for
from otel_sessions.demo.provider import Exchange, Provider

__all__ = ["Exchange", "Provider", "clients_for", "run"]
