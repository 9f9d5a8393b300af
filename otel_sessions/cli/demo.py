"""``demo``: the whole way once, offline: real SDKs, capture, delivery, store, tree."""

from __future__ import annotations

import textwrap
from types import ModuleType

import click

import otel_sessions
from otel_sessions.base.errors import OtelSessionsError, StoreUnavailableError
from otel_sessions.base.settings import masked
from otel_sessions.cli.app import Run, program, store_option
from otel_sessions.cli.reading import STEPS_QUERY, show_session
from otel_sessions.store import open_store

_MEMORY = "chdb://memory"
_FLUSH_SECONDS = 30.0
_INTRODUCTION = (
    "A support agent answers one ticket: triage → classify, research (in parallel, with a retry), respond. "
    "It runs on the openai, anthropic and groq SDKs, sync and async, streamed and not. The provider is served "
    "on loopback: no key, no network, nothing to pay. The prices are the real ones."
)


@program.command()
@store_option
@click.pass_obj
def demo(run: Run) -> None:
    """Run an agent offline on real SDKs, then show its session."""
    run.output.lines([*textwrap.wrap(_INTRODUCTION, min(run.output.width, 100)), ""])
    agent = _agent()
    dsn = _usable(run, run.settings.store_dsn)
    with open_store(dsn) as store:
        try:
            session_id = _rehearse(run, agent, dsn)
            show_session(run, store.reader(), session_id)
        finally:
            otel_sessions.shutdown()
    if dsn == _MEMORY:
        run.output.note("This store was in memory and is gone now. With --store chdb:///some/folder it stays.")
    else:
        run.say_next("list", f"show {session_id}", f'sql "{STEPS_QUERY}"', "doctor")


def _usable(run: Run, dsn: str) -> str:
    """``dsn``, or a store in memory where another process holds the local one."""
    with run.output.working("opening the store"):
        try:
            with run.store(create=True) as store:
                store.migrate(run.settings.retention_days)
        except StoreUnavailableError as error:
            if not dsn.startswith("chdb:///"):
                raise
            run.output.note(f"{error}\nThe demo goes on with a store in memory.\n\n")
            return _MEMORY
    return dsn


def _agent() -> ModuleType:
    """The demo's own part, which needs the SDKs and a server."""
    try:
        from otel_sessions import demo as agent
    except ModuleNotFoundError as error:
        fix = "pip install 'otel-sessions[demo]'"
        raise OtelSessionsError(f"the demo needs {error.name}, which is not installed: {fix}") from error
    return agent


def _rehearse(run: Run, agent: ModuleType, dsn: str) -> str:
    """Run the agent and deliver its spans; returns the session's id."""
    with run.output.working("the agent is working") as progress:
        otel_sessions.configure(store=dsn, service_name="support-agent")
        with agent.Provider(on_exchange=lambda exchange: progress(f"{exchange.host} {exchange.model}")) as provider:
            clients, async_clients = agent.clients_for(provider.port)
            with clients:
                session_id: str = agent.run(clients, async_clients)
        progress("delivering")
        delivered = otel_sessions.flush(_FLUSH_SECONDS)
    if not delivered.ok:
        lost = f"{delivered.pending} spans are still waiting, {delivered.dropped} were dropped"
        raise OtelSessionsError(f"{masked(dsn)} did not take all spans within {_FLUSH_SECONDS:.0f} s: {lost}.")
    return session_id
