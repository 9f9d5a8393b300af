"""The package's structure: stages know stage 0 and nothing of each other; the door stays narrow."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import otel_sessions

PACKAGE = Path(otel_sessions.__file__).parent
NAME = PACKAGE.name
MODULES = sorted(path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py"))

# What each part may import besides itself and base. Only the parts that put stages together have a choice;
# the demo comes in by the front door, as users do.
ALLOWED: dict[str, set[str]] = {
    "assembly": {"capture", "delivery", "prices", "processor", "store"},
    "testing": {"capture", "processor"},
    "cli": {NAME, "assembly", "delivery", "demo", "prices", "store"},
    "demo": {NAME},
    NAME: {"assembly", "capture", "processor", "sessions"},
}


def part_of(module: str) -> str:
    """``otel_sessions.store.rows`` belongs to ``store``; the package itself to ``otel_sessions``."""
    names = module.split(".")
    return names[1] if len(names) > 1 else NAME


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Every module of the package that ``path`` imports, anywhere in it."""
    for node in ast.walk(ast.parse((PACKAGE.parent / path).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == NAME)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which stage is meant"
            module = node.module or ""
            if module == NAME:
                yield from (f"{NAME}.{alias.name}" if is_module(alias.name) else NAME for alias in node.names)
            elif module.startswith(f"{NAME}."):
                yield module


def is_module(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_stages_do_not_import_each_other(path: Path) -> None:
    """A stage imports itself and base; those that assemble stages import what they are listed with."""
    part = part_of(dotted(path))
    allowed = {part, "base"} if part != "base" else {"base"}
    for imported in imports(path):
        assert part_of(imported) in allowed | ALLOWED.get(part, set()), f"{path} imports {imported}"


def test_the_modules_of_stage_0_are_not_circular() -> None:
    """Stage 0 can be read from top to bottom."""
    graph = {dotted(path): {*imports(path)} for path in MODULES if part_of(dotted(path)) == "base"}
    done: set[str] = set()
    while graph:
        free = [module for module, needed in graph.items() if not (needed - done - {module, f"{NAME}.base"})]
        assert free, f"circular: {sorted(graph)}"
        done.update(free)
        for module in free:
            del graph[module]


@pytest.mark.parametrize("name", ["utils", "util", "helpers", "helper", "common", "misc"])
def test_no_module_is_a_drawer(name: str) -> None:
    """Every module is named for what it does."""
    assert [str(path) for path in MODULES if path.stem == name or name in path.parts] == []


def test_the_door_is_narrow() -> None:
    """What users import is listed, sorted, at most 15 names, and all there."""
    assert len(otel_sessions.__all__) <= 15
    assert sorted(otel_sessions.__all__) == list(otel_sessions.__all__)
    assert all(hasattr(otel_sessions, name) for name in otel_sessions.__all__)
    assert {"configure", "session", "step", "current_session", "instrument", "uninstrument", "flush", "shutdown"} <= {
        *otel_sessions.__all__
    }


def test_an_older_opentelemetry_may_be_installed() -> None:
    """Agent frameworks hold OpenTelemetry back: beside them we have to do with the first that knows httpx2.

    Nothing but the requirements; that the package works with it shows where the suite runs on it.
    """
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {each.name: each.specifier for each in map(Requirement, project["dependencies"])}
    first = {"api": "1.44.0", "sdk": "1.44.0", "exporter-otlp": "1.44.0", "instrumentation-httpx": "0.65b0"}
    assert all(wanted[f"opentelemetry-{name}"].contains(number) for name, number in first.items())


def test_only_settings_reads_our_environment() -> None:
    """One reader of OTEL_SESSIONS_ variables, so that the settings table is complete."""
    readers = {
        str(path)
        for path in MODULES
        if "os.environ" in (text := (PACKAGE.parent / path).read_text("utf-8")) and '"OTEL_SESSIONS_' in text
    }
    assert readers <= {str(Path(NAME, "base", "settings.py"))}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_every_module_says_what_it_is(path: Path) -> None:
    """Each module starts with a docstring."""
    assert ast.get_docstring(ast.parse((PACKAGE.parent / path).read_text("utf-8")))
