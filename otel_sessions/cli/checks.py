"""What ``doctor`` looks at. Each check finishes, whatever it finds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Literal

from otel_sessions.base import settings
from otel_sessions.base.errors import OtelSessionsError, SettingError, SpoolError
from otel_sessions.cli.app import Run, missing_folder
from otel_sessions.cli.spool import backlog
from otel_sessions.cli.text import ago
from otel_sessions.store import Store

State = Literal["ok", "warn", "fail"]
_STRAY_HOURS = 24

_CORE = ("opentelemetry-sdk", "clickhouse-connect", "genai-prices", "msgspec")
_SDKS = ("openai", "anthropic", "google-genai", "mistralai", "groq", "cohere", "litellm")
_PEERS = (
    "openinference-instrumentation",
    "opentelemetry-instrumentation-openai",
    "langfuse",
    "logfire",
    "traceloop-sdk",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: its state, what was found, and what mends it (empty if nothing is to be done)."""

    name: str
    state: State
    found: str
    fix: str = ""


def checks(run: Run, environ: Mapping[str, str] = os.environ) -> list[Check]:
    """All checks, installation first."""
    found = [*_installation(), *_pipeline(environ)]
    try:
        in_force = run.settings
    except SettingError as error:
        return [*found, Check("settings", "fail", str(error), f"Mend the setting {error.setting}.")]
    return [*found, _settings(in_force), *_store(run, in_force.store_dsn), *_spool(run)]


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _listed(packages: tuple[str, ...]) -> str:
    return ", ".join(f"{package} {number}" for package in packages if (number := _installed(package)))


def _installation() -> Iterator[Check]:
    yield Check(
        "otel-sessions", "ok", f"{_installed('otel-sessions') or 'not installed'} on Python {sys.version.split()[0]}"
    )
    yield Check("libraries", "ok", _listed(_CORE))
    clients = _listed(("httpx", "httpx2"))
    missing = Check("http clients", "fail", "neither httpx nor httpx2 is installed", "pip install httpx2")
    yield Check("http clients", "ok", clients) if clients else missing
    yield Check("provider SDKs", "ok", _listed(_SDKS) or "none; any client on httpx or httpx2 is traced")
    if (genai := _installed("google-genai")) and _installed("aiohttp"):
        found = "google-genai's async client uses aiohttp where that is installed: its calls are not recorded"
        module = "httpx" if genai.startswith(("1.", "2.")) else "httpx2"
        fix = f'Client(http_options={{"async_client_args": {{"transport": {module}.AsyncHTTPTransport()}}}})'
        yield Check("google-genai", "warn", found, fix)
    if (dspy := _installed("dspy")) and not dspy.startswith(("2.", "3.0.", "3.1.", "3.2.", "3.3.")):
        found = "DSPy has an HTTP client of its own since 3.4: its calls are not recorded"
        yield Check("dspy", "warn", found, 'dspy.LM(..., engine="litellm")')


def _pipeline(environ: Mapping[str, str]) -> Iterator[Check]:
    if settings.sdk_disabled(environ):
        yield Check("sdk", "fail", "OTEL_SDK_DISABLED=true: no span is made at all", "unset OTEL_SDK_DISABLED")
    if peers := _listed(_PEERS):
        yield Check("other tracing", "ok", f"{peers}; an exchange that several describe is counted once")
    rivals = [point.name for point in entry_points(group="opentelemetry_distro") if point.name != "otel_sessions"]
    chosen = environ.get("OTEL_PYTHON_DISTRO")
    if rivals and chosen != "otel_sessions":
        fix = "export OTEL_PYTHON_DISTRO=otel_sessions OTEL_PYTHON_CONFIGURATOR=otel_sessions"
        yield Check(
            "distro",
            "warn",
            f"opentelemetry-instrument may take the defaults of {', '.join(rivals)}: metrics by OTLP too",
            fix,
        )


def _settings(in_force: settings.Settings) -> Check:
    changed = [f.name for f in fields(in_force) if getattr(in_force, f.name) != f.default]
    return Check("settings", "ok", repr(in_force) if changed else "all at their defaults")


def _store(run: Run, dsn: str) -> Iterator[Check]:
    shown = settings.masked(dsn)
    if dsn == "none":
        yield Check(
            "store", "warn", "none: spans are not stored", "Set OTEL_SESSIONS_STORE, or unset it for the local store."
        )
    elif dsn.startswith("chdb:") and not _installed("chdb"):
        yield Check(
            "store", "fail", f"{shown} needs chdb, which is not installed", "pip install 'otel-sessions[local]'"
        )
    elif missing_folder(dsn):
        yield Check("store", "warn", f"{shown} does not exist yet", _how_to_fill(run))
    else:
        yield from _opened(run, shown)


def _opened(run: Run, shown: str) -> Iterator[Check]:
    try:
        with run.store() as store:
            yield Check("store", "ok", f"{shown}, ClickHouse {store.server_version()}")
            schema = _schema(run, store)
            yield schema
            if schema.state == "ok":
                yield _sessions(run, store)
                yield from _strays(store)
    except OtelSessionsError as error:
        yield Check("store", "fail", str(error), "See the message; --store DSN names another store.")


def _schema(run: Run, store: Store) -> Check:
    states = store.schema_state()
    for bad in ("changed", "newer"):
        if named := [entry.file for entry in states if entry.state == bad]:
            fix = (
                "pip install --upgrade otel-sessions"
                if bad == "newer"
                else "restore the files, or use another database"
            )
            return Check("schema", "fail", f"{bad}: {', '.join(named)}", fix)
    pending = [entry.file for entry in states if entry.state == "pending"]
    if pending:
        return Check("schema", "warn", f"{len(pending)} of {len(states)} files not applied", run.again("migrate"))
    return Check("schema", "ok", f"{len(states)} files applied")


def _sessions(run: Run, store: Store) -> Check:
    newest = store.reader().sessions(limit=1)
    if not newest:
        return Check("sessions", "warn", "none yet", _how_to_fill(run))
    return Check("sessions", "ok", f"the newest started {ago(newest[0].started_at, datetime.now(UTC))}")


def _strays(store: Store) -> Iterator[Check]:
    calls = store.reader().calls_outside_sessions(_STRAY_HOURS)
    if calls:
        found = f"{calls} calls of the last {_STRAY_HOURS} hours are in none"
        fix = "Open session() around them; docs/frameworks.md says where threads and tasks lose it."
        yield Check("calls outside sessions", "warn", found, fix)


def _spool(run: Run) -> Iterator[Check]:
    try:
        waiting = backlog(run)
    except SpoolError as error:
        yield Check("spool", "warn", f"cannot be read: {error}", run.again("spool status"))
        return
    if waiting:
        yield Check("spool", "warn" if waiting.is_left else "ok", waiting.found, waiting.command)


def _how_to_fill(run: Run) -> str:
    return f"{run.again('demo')}, or run your own program"
