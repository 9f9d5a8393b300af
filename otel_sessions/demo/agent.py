"""A support agent: triage → classify, research, respond. Written as a user of otel-sessions would write it.

Sessions and steps are all that it knows of otel-sessions. The clients are the SDKs' own.
"""

from __future__ import annotations

import asyncio
from typing import Any

import otel_sessions
from otel_sessions.demo.clients import AsyncClients, Clients

TICKET = "I was charged twice for my Premium plan in November, and the second charge is in EUR. Please refund it today."

_PLANS = ("Free", "Starter", "Premium", "Business", "Enterprise")
_REGIONS = ("US", "Canada", "Germany", "France", "Spain", "Japan", "Brazil", "India", "Australia", "Kenya")
HANDBOOK = "\n".join(
    f"{plan} in {region}: duplicate charges are refunded in full to the original card within {days} working days; "
    "a charge in a foreign currency is refunded at the rate of the day of the charge."
    for plan in _PLANS
    for days, region in enumerate(_REGIONS, 3)
)


def run(clients: Clients, async_clients: AsyncClients, ticket: str = TICKET) -> str:
    """Answer one ticket; returns the id of its session."""
    with otel_sessions.session(name="support-triage", path="/triage", user_id="user-4711") as session:
        with otel_sessions.step("classify"):
            category = classify(clients, ticket)
        with otel_sessions.step("research"):
            notes = asyncio.run(research(async_clients, ticket, category))
        with otel_sessions.step("respond"):
            answer = respond(clients, ticket, notes)
    subject_line(clients, answer, session.id)
    return session.id


def classify(clients: Clients, ticket: str) -> str:
    """One word for the kind of ticket."""
    completion = clients.openai.chat.completions.create(
        model="gpt-6-luna",
        messages=[
            {"role": "system", "content": "Classify the ticket: billing, bug, account or other. One word."},
            {"role": "user", "content": ticket},
        ],
    )
    return completion.choices[0].message.content or "other"


async def research(clients: AsyncClients, ticket: str, category: str) -> tuple[str, ...]:
    """What the handbook, similar tickets and the customer's history say; all three are asked at once."""
    async with clients:
        return await asyncio.gather(
            handbook(clients, ticket), similar_tickets(clients, ticket), history(clients, category)
        )


@otel_sessions.step("handbook")
async def handbook(clients: AsyncClients, ticket: str) -> str:
    """Ask Claude about a long document, which is cached at the provider."""
    system: Any = [{"type": "text", "text": HANDBOOK, "cache_control": {"type": "ephemeral"}}]
    question = f"Which rule applies? {ticket}"
    asked: Any = [{"role": "user", "content": question}]
    await clients.anthropic.messages.create(model="claude-haiku-5-5", max_tokens=300, system=system, messages=asked)
    asked = [{"role": "user", "content": f"Quote that rule. {ticket}"}]
    message = await clients.anthropic.messages.create(
        model="claude-haiku-5-5", max_tokens=300, system=system, messages=asked
    )
    return "".join(block.text for block in message.content if block.type == "text")


@otel_sessions.step("similar")
async def similar_tickets(clients: AsyncClients, ticket: str) -> str:
    """Embed the ticket to look for similar ones. The first attempt is refused; the SDK tries again by itself."""
    embedding = await clients.openai.embeddings.create(model="text-embedding-3-small", input=ticket)
    return f"closest ticket at distance {abs(embedding.data[0].embedding[0]):.3f}"


@otel_sessions.step("history")
async def history(clients: AsyncClients, category: str) -> str:
    """Let a Llama summarise the customer's history, streamed."""
    stream = await clients.groq.chat.completions.create(
        model="llama-3.3-70b-versatile",
        messages=[{"role": "user", "content": f"Summarise this customer's {category} history in two sentences."}],
        stream=True,
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


def respond(clients: Clients, ticket: str, notes: tuple[str, ...]) -> str:
    """A draft, streamed, and its review by a reasoning model."""
    facts = "\n".join(notes)
    with clients.anthropic.messages.stream(
        model="claude-sonnet-5-5",
        max_tokens=600,
        messages=[{"role": "user", "content": f"Draft an answer to: {ticket}\nFacts:\n{facts}"}],
    ) as stream:
        draft = "".join(stream.text_stream)
    with otel_sessions.step("review"):
        review = clients.openai.responses.create(
            model="gpt-6-sol", reasoning={"effort": "low"}, input=f"Correct this draft where it is wrong: {draft}"
        )
    return review.output_text


def subject_line(clients: Clients, answer: str, session_id: str) -> str:
    """Outside of any ``with``: three headers put this call into the session just as well."""
    stream = clients.openai.chat.completions.create(
        model="gpt-6-luna",
        messages=[{"role": "user", "content": f"Write a subject line for: {answer}"}],
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={
            "OTel-Session-Id": session_id,
            "OTel-Session-Name": "support-triage",
            "OTel-Session-Path": "/triage/respond/subject",
        },
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
