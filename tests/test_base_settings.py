"""Settings: where a value comes from, and what a wrong one says."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from otel_sessions.base.errors import OtelSessionsError, SettingError
from otel_sessions.base.settings import PREFIX, Settings, default_store, load, masked


def shout(text: str) -> str:
    return text.upper()


VALID: dict[str, tuple[Any, Any]] = {
    "store": ("http://ann:pw@db:8123/otel", "http://ann:pw@db:8123/otel"),
    "otlp_endpoint": (" http://localhost:4318 ", "http://localhost:4318"),
    "service_name": (" agent ", "agent"),
    "capture_content": ("Yes", True),
    "redact": ("json:dumps", json.dumps),
    "llm_hosts": ("LLM.internal, 10.0.0.7:8000 ,", ("llm.internal", "10.0.0.7:8000")),
    "ignore_hosts": ("a", ("a",)),
    "forward_hosts": ("a,b", ("a", "b")),
    "include_usage": ("1", True),
    "instrument_http": ("off", False),
    "migrate": ("false", False),
    "retention_days": ("30", 30),
    "queue_size": ("1000", 1000),
    "batch_size": ("1", 1),
    "batch_age_seconds": ("0.5", 0.5),
    "max_value_length": ("1000", 1000),
    "spool": ("ON", "on"),
    "spool_dir": ("/var/spool/agent", "/var/spool/agent"),
    "spool_max_bytes": ("1000000", 1_000_000),
    "step_idle_seconds": ("5", 5.0),
    "max_sessions": ("10", 10),
}

WRONG: list[tuple[str, Any]] = [
    ("store", "mysql://db"),
    ("store", "http://"),
    ("store", "http://db:99999"),
    ("store", "chdb://"),
    ("store", ""),
    ("store", 7),
    ("otlp_endpoint", "localhost:4318"),
    ("otlp_endpoint", "grpc://localhost"),
    ("service_name", "  "),
    ("capture_content", "maybe"),
    ("redact", "no.such:function"),
    ("redact", "json:nothing"),
    ("redact", "json"),
    ("redact", 7),
    ("llm_hosts", "http://llm.internal"),
    ("llm_hosts", "two hosts"),
    ("llm_hosts", 7),
    ("ignore_hosts", ["a", 7]),
    ("forward_hosts", "a/path"),
    ("include_usage", 2),
    ("instrument_http", "si"),
    ("migrate", "later"),
    ("retention_days", -1),
    ("retention_days", "1.5"),
    ("queue_size", 0),
    ("batch_size", "many"),
    ("batch_size", True),
    ("batch_age_seconds", 0),
    ("max_value_length", 10),
    ("spool", "maybe"),
    ("spool_dir", " "),
    ("spool_max_bytes", 1000),
    ("step_idle_seconds", "nan"),
    ("step_idle_seconds", float("inf")),
    ("max_sessions", 0),
]


def test_every_setting_is_tested() -> None:
    """A new setting needs a valid and a wrong example here."""
    names = {field.name for field in fields(Settings)}
    assert set(VALID) == names
    assert {name for name, _ in WRONG} == names


@pytest.mark.parametrize("name", VALID)
def test_a_setting_is_read_from_the_environment(name: str) -> None:
    """OTEL_SESSIONS_<NAME>, as text; blank is as good as absent."""
    text, value = VALID[name]
    assert getattr(load({}, {PREFIX + name.upper(): text}), name) == value
    assert load({}, {PREFIX + name.upper(): "  "}) == Settings()


@pytest.mark.parametrize("name", VALID)
def test_an_argument_wins_over_the_environment(name: str) -> None:
    """configure(name=...) wins over the variable; None means not given."""
    text, value = VALID[name]
    environ = {PREFIX + name.upper(): text}
    assert getattr(load({name: None}, environ), name) == value
    default = getattr(Settings(), name)
    if default not in {None, ()}:
        assert getattr(load({name: default}, environ), name) == default


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_refused_with_setting_value_and_fix(name: str, value: object) -> None:
    """The message says which setting, what it got, what is allowed and how to mend it."""
    with pytest.raises(SettingError) as error:
        load({name: value}, {})
    message = str(error.value)
    assert message.startswith(f"{name}: got ")
    assert "allowed is " in message
    assert message.endswith(".")
    assert error.value.setting == name
    assert isinstance(error.value, OtelSessionsError)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, value in WRONG if isinstance(value, str) and value.strip()]
)
def test_a_wrong_variable_is_named_as_the_variable(name: str, value: str) -> None:
    """Who set the environment variable finds its name in the message."""
    variable = PREFIX + name.upper()
    with pytest.raises(SettingError, match=variable):
        load({}, {variable: value})


def test_an_unknown_setting_is_refused_with_the_closest_name() -> None:
    """A typing error is found at start-up."""
    with pytest.raises(SettingError, match="Did you mean 'service_name'"):
        load({"servicename": "agent"}, {})
    with pytest.raises(SettingError, match="settings table"):
        load({"zzz": 1}, {})


@pytest.mark.parametrize(
    ("mode", "on"),
    [("NO_CONTENT", False), ("span_only", True), ("EVENT_ONLY", True), ("SPAN_AND_EVENT", True), ("true", True)],
)
def test_the_standard_content_variable_counts(mode: str, on: bool) -> None:  # noqa: FBT001 - a parameter
    """OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT turns content on, unless our own setting says otherwise."""
    variable = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    assert load({}, {variable: mode}).capture_content is on
    assert load({"capture_content": False}, {variable: mode}).capture_content is False
    assert load({}, {variable: mode, "OTEL_SESSIONS_CAPTURE_CONTENT": "no"}).capture_content is False


def test_a_wrong_content_mode_is_refused() -> None:
    """Recording messages by accident would be worse than an error."""
    with pytest.raises(SettingError, match="CAPTURE_MESSAGE_CONTENT"):
        load({}, {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SOMETIMES"})


@pytest.mark.parametrize("dsn", ["chdb:///data/x", "chdb://memory", "none", "https://db", "http://u:p@[::1]:8123/x"])
def test_stores_that_are_allowed(dsn: str) -> None:
    """Servers, chDB folders, memory, and none at all."""
    assert load({"store": dsn}, {}).store_dsn == dsn


@pytest.mark.parametrize(
    "dsn",
    ["chdb:relative", "chdb://relative", f"chdb://{__file__}", "http://h:8123/db;drop", "http://h/a/b", "http://"],
)
def test_stores_that_cannot_be_are_refused_at_once(dsn: str) -> None:
    """A relative folder, a file, a database whose name is none: known when the setting is read, not at the first insert."""
    with pytest.raises(SettingError, match="store"):
        load({"store": dsn}, {})


def test_without_a_store_spans_go_to_the_users_data_folder() -> None:
    """The default is a local chDB store."""
    assert load({}, {}).store_dsn == default_store()
    assert default_store().startswith("chdb:///")


def test_passwords_are_masked() -> None:
    """Neither repr nor an error message shows a password."""
    settings = load({"store": "https://ann:hunter2@db/otel", "queue_size": 5}, {})
    assert "hunter2" not in repr(settings)
    assert "https://ann:***@db/otel" in repr(settings)
    with pytest.raises(SettingError) as error:
        load({"store": "ftp://ann:hunter2@db/otel"}, {})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("http://db/x", "http://db/x"),
        ("http://ann@db", "http://ann@db"),
        ("http://:pw@db:1/x", "http://:***@db:1/x"),
        ("http://a:p@w@db", "http://a:***@db"),
        ("http://[broken", "***"),
    ],
)
def test_masking(dsn: str, shown: str) -> None:
    """What cannot be parsed is not shown at all."""
    assert masked(dsn) == shown


def test_functions_are_taken_as_they_are() -> None:
    """A redaction function may be given itself or by name."""
    assert load({"redact": shout}, {}).redact is shout


def test_settings_cannot_be_changed() -> None:
    """Frozen: what was checked stays checked."""
    with pytest.raises(FrozenInstanceError):
        load({}, {}).queue_size = 0  # type: ignore[misc]


def test_every_setting_is_documented() -> None:
    """The README's table is made of these sentences."""
    assert all(field.metadata["doc"].rstrip().endswith((".", ").")) for field in fields(Settings))


@pytest.mark.parametrize(
    ("store", "spool", "spools"),
    [
        ("http://db:8123/otel", "auto", True),
        ("http://db:8123/otel", "off", False),
        ("chdb:///data/store", "auto", True),
        ("chdb:///data/store", "off", False),
        ("chdb:///data/store", "on", True),
        ("chdb://memory", "on", False),
        ("none", "on", False),
    ],
)
def test_batches_wait_on_disk_unless_told_otherwise(store: str, spool: str, *, spools: bool) -> None:
    """By default for every store but one that ends with the process."""
    assert load({"store": store, "spool": spool}, {}).spools is spools


def test_the_spool_lies_in_the_state_folder_unless_told_otherwise() -> None:
    """spool_dir is the folder itself."""
    assert load({"spool_dir": "/a/b"}, {}).spool_folder == Path("/a/b")
    assert load({"store": "http://db:8123/otel"}, {}).spool_folder.name == "spool"


def test_the_spool_of_a_local_store_lies_in_its_folder() -> None:
    """Whoever uses the folder finds it; spool_dir wins."""
    assert load({"store": "chdb:///data/store?max_threads=2"}, {}).spool_folder == Path("/data/store/spool")
    assert load({"store": "chdb:///data/store", "spool_dir": "/a/b"}, {}).spool_folder == Path("/a/b")
