"""Every setting: its name, environment variable, default and meaning. The only reader of the environment.

``configure(name=value)`` wins over ``OTEL_SESSIONS_<NAME>``, which wins over the default. The README's table is
generated from the fields below.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import platformdirs

from otel_sessions.base.errors import SettingError

PREFIX = "OTEL_SESSIONS_"
Redact = Callable[[str], str]
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}
_CONTENT_MODES = {"NO_CONTENT": False, "SPAN_ONLY": True, "EVENT_ONLY": True, "SPAN_AND_EVENT": True}
_CONTENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def default_store() -> str:
    """DSN of the local store in the user's data folder."""
    return f"chdb://{Path(platformdirs.user_data_dir('otel-sessions')) / 'store'}"


def _boolean(setting: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise SettingError(setting, value, "true or false", f"Set {setting}=true or {setting}=false.")


def _number(minimum: float) -> Callable[[str, object], float]:
    def convert(setting: str, value: object) -> float:
        try:
            number = float(cast("Any", value))
        except (TypeError, ValueError):
            number = float("nan")
        if isinstance(value, bool) or not minimum <= number < float("inf"):
            raise SettingError(
                setting, value, f"a number of at least {minimum:g}", f"Set {setting}={minimum:g} or more."
            )
        return number

    return convert


def _count(minimum: int) -> Callable[[str, object], int]:
    def convert(setting: str, value: object) -> int:
        number = _number(minimum)(setting, value)
        if number != int(number):
            raise SettingError(setting, value, f"a whole number of at least {minimum}", f"Set {setting}={int(number)}.")
        return int(number)

    return convert


def _hosts(setting: str, value: object) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)) or not all(isinstance(item, str) for item in items):
        raise SettingError(setting, value, "host names", f"Set {setting}='llm.internal,10.0.0.7:8000'.")
    hosts = tuple(item.strip().lower() for item in items if item.strip())
    for host in hosts:
        if "/" in host or " " in host:
            raise SettingError(
                setting, host, "host or host:port, without scheme and path", f"Remove the rest of {host!r}."
            )
    return hosts


def _one_of(*allowed: str) -> Callable[[str, object], str]:
    def convert(setting: str, value: object) -> str:
        text = str(value).strip().lower()
        if text not in allowed:
            raise SettingError(setting, value, ", ".join(allowed), f"Set {setting}={allowed[0]}.")
        return text

    return convert


def _text(setting: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise SettingError(setting, value, "a text that is not empty", f"Set {setting} to a text, or leave it out.")
    return value.strip()


def _store(setting: str, value: object) -> str:
    text = _text(setting, value)
    if not (text == "none" or _is_server(text) or _is_chdb(text)):
        allowed = "http(s)://user:pass@host:port/db, chdb:///path, chdb://memory, none"
        fix = "Use http://user:password@host:8123/otel, chdb:///path/to/folder, chdb://memory, or none."
        raise SettingError(setting, masked(text), allowed, fix)
    return text


def _is_server(dsn: str) -> bool:
    try:
        parts = urlsplit(dsn)
        complete = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return complete and re.fullmatch(r"/?|/[A-Za-z_][A-Za-z0-9_]*/?", parts.path) is not None


def _is_chdb(dsn: str) -> bool:
    """``chdb://memory`` or an absolute folder, which need not exist yet; both may have ``?settings``."""
    place, _, _ = dsn.partition("?")
    folder = place.removeprefix("chdb://")
    return place == "chdb://memory" or (place != folder and folder.startswith("/") and not Path(folder).is_file())


def _endpoint(setting: str, value: object) -> str:
    text = _text(setting, value)
    if urlsplit(text).scheme not in {"http", "https"} or not urlsplit(text).hostname:
        raise SettingError(setting, masked(text), "an http or https URL", f"Set {setting}=http://localhost:4318.")
    return text


def _redact(setting: str, value: object) -> Redact:
    if callable(value):
        return cast("Redact", value)
    fix = f"Give a function str -> str, or set {setting}=module:function."
    if isinstance(value, str) and ":" in value:
        module, _, name = value.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise SettingError(setting, value, "an importable module:function", f"{error}. {fix}") from error
        if callable(found):
            return cast("Redact", found)
    raise SettingError(setting, value, "a function str -> str or module:function", fix)


def masked(dsn: str) -> str:
    """``dsn`` with its password replaced by ``***``."""
    try:
        parts = urlsplit(dsn)
        if parts.password is None:
            return dsn
        return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{parts.netloc.rpartition('@')[2]}"))
    except ValueError:
        return "***"


def _setting(default: Any, convert: Callable[[str, object], Any], doc: str) -> Any:
    return field(default=default, metadata={"convert": convert, "doc": doc})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, checked. Make one with :func:`load`."""

    store: str | None = _setting(
        None, _store, "Where spans go: `http(s)://user:pass@host:port/db`, `chdb:///path`, `chdb://memory`, or `none`. "
        "Default: a chDB store in the user's data folder."
    )  # fmt: skip
    otlp_endpoint: str | None = _setting(
        None, _endpoint, "Also send spans by OTLP/HTTP to this base URL (Collector, Jaeger)."
    )
    service_name: str | None = _setting(None, _text, "`service.name` of this process; wins over `OTEL_SERVICE_NAME`.")
    capture_content: bool = _setting(
        False, _boolean, f"Record messages on spans. Off by default; `{_CONTENT_VARIABLE}` turns it on too."
    )
    redact: Redact | None = _setting(
        None,
        _redact,
        "Function `str -> str`, called on every text of captured content before it is recorded (`module:function`).",
    )
    llm_hosts: tuple[str, ...] = _setting(
        (),
        _hosts,
        "Further hosts (`host` or `host:port`, followed by `=provider` if it is known) on which every path of a known "
        "wire format is an LLM call.",
    )
    ignore_hosts: tuple[str, ...] = _setting((), _hosts, "Hosts on which nothing is an LLM call.")
    forward_hosts: tuple[str, ...] = _setting(
        (), _hosts, "LLM hosts that do receive session headers, traceparent and baggage (a proxy of your own)."
    )
    include_usage: bool = _setting(
        False,
        _boolean,
        "Add `stream_options.include_usage` to streamed OpenAI chat requests that lack it. Changes the request.",
    )
    instrument_http: bool = _setting(
        True,
        _boolean,
        "Trace calls to other services with opentelemetry-instrumentation-httpx and send them traceparent and baggage.",
    )
    migrate: bool = _setting(True, _boolean, "Create or update the schema when the store is first written to.")
    retention_days: int = _setting(0, _count(0), "Delete spans and calls older than this many days; 0 keeps all.")
    queue_size: int = _setting(
        65_536, _count(1), "Spans that wait in memory at most; the newest beyond that are dropped and counted."
    )
    batch_size: int = _setting(32_768, _count(1), "Spans per insert at most.")
    batch_age_seconds: float = _setting(1.0, _number(0.01), "Longest time that a span waits for its batch to fill.")
    max_value_length: int = _setting(
        1_048_576, _count(256), "Longest attribute value in characters; what is longer is cut and counted."
    )
    spool: str = _setting(
        "auto",
        _one_of("auto", "on", "off"),
        "Keep batches on disk until the store has them: `on`, `off`, or `auto`, on except for stores in memory.",
    )
    spool_dir: str | None = _setting(
        None,
        _text,
        "Folder for these batches, one file per store. Default: in the user's state folder; for `chdb:///path` the folder "
        "`spool` in it.",
    )
    spool_max_bytes: int = _setting(
        536_870_912, _count(1_000_000), "Size of a spool file at most; when it is full, new batches stay in memory."
    )
    step_idle_seconds: float = _setting(
        30.0, _number(0.01), "A step span is exported after this long without activity at its path."
    )
    max_sessions: int = _setting(
        4_096, _count(1), "Sessions whose steps are remembered at once; the longest unused is exported first."
    )

    def __repr__(self) -> str:
        shown = ((f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default)
        pairs = (f"{name}={masked(value) if isinstance(value, str) else value!r}" for name, value in shown)
        return f"Settings({', '.join(pairs)})"

    @property
    def store_dsn(self) -> str:
        """The store's DSN, the default filled in."""
        return self.store or default_store()

    @property
    def spools(self) -> bool:
        """Whether batches for the store wait on disk. A store in memory ends with the process and needs no spool."""
        dsn = self.store_dsn
        if dsn == "none" or dsn.startswith("chdb://memory"):
            return False
        return self.spool != "off"

    @property
    def spool_folder(self) -> Path:
        """The spool's folder, the default filled in."""
        if self.spool_dir:
            return Path(self.spool_dir)
        if self.store_dsn.startswith("chdb:///"):
            # Beside what it is for: whoever uses the folder finds it.
            return Path(urlsplit(self.store_dsn).path) / "spool"
        return Path(platformdirs.user_state_dir("otel-sessions")) / "spool"


def sdk_disabled(environ: Mapping[str, str] | None = None) -> bool:
    """Whether ``OTEL_SDK_DISABLED`` switches OpenTelemetry off: then nothing is recorded and nothing delivered."""
    environ = os.environ if environ is None else environ
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def load(given: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from ``given``, then ``environ`` (default: the process environment), then the defaults.

    ``None`` in ``given`` means not given. Raises :class:`SettingError`.
    """
    given = {name: value for name, value in (given or {}).items() if value is not None}
    environ = os.environ if environ is None else environ
    known = {f.name: f for f in fields(Settings)}
    for name, value in given.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            fix = f"Did you mean {close[0]!r}?" if close else "See the settings table in the README."
            raise SettingError(name, value, f"one of {', '.join(known)}", fix)
    values = {name: f.metadata["convert"](name, given[name]) for name, f in known.items() if name in given}
    for name, f in known.items():
        variable = PREFIX + name.upper()
        if name not in values and environ.get(variable, "").strip():
            values[name] = f.metadata["convert"](variable, environ[variable])
    if "capture_content" not in values and environ.get(_CONTENT_VARIABLE, "").strip():
        values["capture_content"] = _content_mode(environ[_CONTENT_VARIABLE])
    return Settings(**values)


def _content_mode(value: str) -> bool:
    mode = value.strip().upper()
    return _CONTENT_MODES[mode] if mode in _CONTENT_MODES else _boolean(_CONTENT_VARIABLE, value)
