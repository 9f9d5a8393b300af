"""What ``doctor`` looks at."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import EntryPoint, PackageNotFoundError, version
from pathlib import Path

import pytest
from recorded_spans import SECOND, START, call

from otel_sessions.cli import checks as doctor
from otel_sessions.cli.app import Run
from otel_sessions.cli.checks import Check, checks
from otel_sessions.store import open_store


def found(store: str, environment: Mapping[str, str] | None = None) -> dict[str, Check]:
    return {check.name: check for check in checks(Run(given=store), environment or {})}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Versions that the installation pretends to have; None for a package that is missing."""
    pretended: dict[str, str | None] = {}

    def ask(package: str) -> str:
        number = pretended.get(package, "") if package in pretended else version(package)
        if number is None:
            raise PackageNotFoundError(package)
        return number

    monkeypatch.setattr(doctor, "version", ask)
    return pretended


def test_a_store_without_schema_wants_migrate(tmp_path: Path) -> None:
    """A database that was opened and never migrated is a warning with the command that mends it."""
    dsn = f"chdb://{tmp_path / 'store'}"
    with open_store(dsn) as store:
        store.server_version()
    schema = found(dsn)["schema"]
    assert (schema.state, schema.fix) == ("warn", f"otel-sessions --store {dsn} migrate")
    assert "not applied" in schema.found


def test_an_empty_store_wants_data(tmp_path: Path) -> None:
    """A migrated store without sessions is a warning, with where sessions come from."""
    dsn = f"chdb://{tmp_path / 'store'}"
    with open_store(dsn) as store:
        store.migrate()
    seen = found(dsn)
    assert (seen["schema"].state, seen["sessions"].state, seen["sessions"].found) == ("ok", "warn", "none yet")


def test_a_store_that_was_never_made_is_a_warning_and_stays_unmade(tmp_path: Path) -> None:
    """Looking does not create the local store."""
    missing = found(f"chdb://{tmp_path / 'store'}")["store"]
    assert (missing.state, "does not exist yet" in missing.found) == ("warn", True)
    assert not (tmp_path / "store").exists()


def test_no_store_is_a_warning() -> None:
    """Spans that go nowhere are worth a word."""
    assert found("none")["store"].state == "warn"


def test_passwords_are_masked() -> None:
    """Neither settings nor the store's error show a password."""
    shown = repr(found("http://ada:hunter2@127.0.0.1:9/otel"))
    assert "ada:***@127.0.0.1:9" in shown
    assert "hunter2" not in shown


def test_chdb_that_is_missing_is_a_failure_with_the_extra(installed: dict[str, str | None], tmp_path: Path) -> None:
    """A local store without the engine says which extra has it."""
    installed["chdb"] = None
    store = found(f"chdb://{tmp_path}")["store"]
    assert (store.state, store.fix) == ("fail", "pip install 'otel-sessions[local]'")


def test_no_http_client_is_a_failure(installed: dict[str, str | None]) -> None:
    """Without httpx and httpx2 there is nothing to trace; one of them will do."""
    installed.update({"httpx": None, "httpx2": "2.16"})
    assert found("none")["http clients"].found == "httpx2 2.16"
    installed["httpx2"] = None
    assert found("none")["http clients"].state == "fail"


def test_google_genai_beside_aiohttp_is_a_warning(installed: dict[str, str | None]) -> None:
    """Its async calls would make no span, silently; the way out names the library that it is built on."""
    installed.update({"google-genai": "3.4.0", "aiohttp": None})
    assert "google-genai" not in found("none")
    installed["aiohttp"] = "3.14.5"
    warned = found("none")["google-genai"]
    assert (warned.state, "aiohttp" in warned.found) == ("warn", True)
    assert '"transport": httpx2.AsyncHTTPTransport()' in warned.fix
    installed["google-genai"] = "2.34.0"
    assert '"transport": httpx.AsyncHTTPTransport()' in found("none")["google-genai"].fix
    installed["google-genai"] = None
    assert "google-genai" not in found("none")


def test_dspy_with_a_client_of_its_own_is_a_warning(installed: dict[str, str | None]) -> None:
    """Its calls would make no span, silently, unless it is told to use litellm."""
    installed["dspy"] = "3.3.1"
    assert "dspy" not in found("none")
    installed["dspy"] = "3.4.1"
    warned = found("none")["dspy"]
    assert (warned.state, warned.fix) == ("warn", 'dspy.LM(..., engine="litellm")')


def test_recent_calls_in_no_session_are_a_warning(tmp_path: Path) -> None:
    """A thread that lost its session shows in no session's tree: doctor counts what it called, of the last day."""
    dsn = f"chdb://{tmp_path / 'store'}"
    now = time.time() - START / SECOND
    with open_store(dsn) as store:
        store.migrate()
        store.insert([call(1, "run", start=now), call(2, "", start=now - 86_400 * 2, trace=2)], "batch-1")
    assert "calls outside sessions" not in found(dsn)
    with open_store(dsn) as store:
        store.insert([call(3, "", start=now, trace=3), call(4, "", start=now, trace=4)], "batch-2")
    warned = found(dsn)["calls outside sessions"]
    assert (warned.state, warned.found.split()[0]) == ("warn", "2")


def test_other_tracing_is_named(installed: dict[str, str | None]) -> None:
    """Other instrumentations are no fault, and their presence explains spans that are not counted."""
    installed.update(dict.fromkeys(doctor._PEERS))
    assert "other tracing" not in found("none")
    installed["langfuse"] = "9.1"
    named = found("none")["other tracing"]
    assert (named.state, "langfuse 9.1" in named.found, "counted once" in named.found) == ("ok", True, True)


def test_another_distro_is_a_warning_until_the_choice_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ``opentelemetry-instrument`` might take another's defaults, doctor says which variables decide."""
    points = [EntryPoint(name, "m:c", "opentelemetry_distro") for name in ("distro", "otel_sessions")]
    monkeypatch.setattr(doctor, "entry_points", lambda **_: points)
    warned = found("none")["distro"]
    assert warned.state == "warn"
    assert "OTEL_PYTHON_DISTRO=otel_sessions" in warned.fix
    assert "distro" not in found("none", {"OTEL_PYTHON_DISTRO": "otel_sessions"})


def test_a_wrong_setting_ends_the_list_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that cannot be read are a failure; the store, which they name, is not looked at."""
    monkeypatch.setenv("OTEL_SESSIONS_QUEUE_SIZE", "many")
    seen = found("none")
    assert seen["settings"].state == "fail"
    assert "OTEL_SESSIONS_QUEUE_SIZE" in seen["settings"].found
    assert "store" not in seen


def test_settings_in_force_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs from the defaults is listed."""
    monkeypatch.setenv("OTEL_SESSIONS_BATCH_SIZE", "17")
    assert "batch_size=17" in found("none")["settings"].found
