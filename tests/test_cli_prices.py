"""``otel-sessions prices``: on a real store, as typed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from recorded_spans import call

from otel_sessions.base import names
from otel_sessions.cli.app import program
from otel_sessions.store import Store, open_store

MODELS = ("gpt-4o-2024-08-06", "my-deployment", "evil\x1b[2Jmodel")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store with ten calls to each of three models, none of which has a price."""
    dsn = f"chdb://{tmp_path / 'store'}"
    monkeypatch.setenv("OTEL_SESSIONS_STORE", dsn)
    with open_store(dsn) as opened:
        opened.migrate()
        named = {names.REQUEST_MODEL: None}
        spans = [
            call(n, session=f"s{n % 3}", more={**named, names.RESPONSE_MODEL: MODELS[n % 3]}) for n in range(1, 31)
        ]
        opened.insert(spans, "batch")
        yield opened


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(program, ["prices", *arguments])
    assert result.exit_code == code, result.output
    return result


def document(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout, parse_float=Decimal)


def test_update_prices_what_had_no_price(store: Store) -> None:
    """Known names get their rows and their calls a cost; the others stay in the list of the unpriced."""
    assert {row["model"] for row in document("unpriced")} == set(MODELS)
    assert "10 calls that had no price have one now" in run("update").stdout
    assert {row["model"] for row in document("unpriced")} == set(MODELS[1:])
    assert store.reader().session("s0").cost_usd == 10 * Decimal("0.00035")
    assert document("list", "gpt-4o")[0]["input"] == Decimal("2.5")


def test_a_model_can_be_mapped_to_another(store: Store) -> None:
    """The deployment costs what the model behind it does, earlier calls included, after an update too."""
    run("map", "openai/my-deployment", "as", "openai/gpt-4o")
    run("update")
    assert store.reader().session("s1").cost_usd == 10 * Decimal("0.00035")
    run("map", "openai/x", "as", "nobody/knows", code=1)
    run("map", "my-deployment", "as", "openai/gpt-4o", code=2)


def test_own_prices_come_from_a_file(store: Store, tmp_path: Path) -> None:
    """They are checked, imported, listed, and applied to history on request only."""
    file = tmp_path / "own.csv"
    file.write_text("provider,model,input,output\nopenai,my-deployment,1,1\n")
    run("import", str(file), "--dry-run")
    assert document("list") == []
    run("import", str(file))
    assert [(row["origin"], row["source"]) for row in document("list")] == [("user", "own.csv")]
    assert store.reader().session("s1").cost_usd is None
    changed = {row["model"]: row for row in document("reprice", "--dry-run")}["my-deployment"]
    assert (changed["old_cost_usd"], changed["new_cost_usd"]) == (None, Decimal("0.0011"))
    run("reprice", "--session", "s1")
    assert store.reader().session("s1").cost_usd == Decimal("0.0011")


def test_what_is_listed_can_be_imported_again(store: Store, tmp_path: Path) -> None:
    """Prices that your own have taken the place of are not listed, so that the file has each condition once."""
    run("update")
    file = tmp_path / "own.csv"
    file.write_text("provider,model,input,output\nopenai,gpt-4o-2024-08-06,2.50,10\n")
    run("import", str(file))
    listed = document("list", "gpt-4o")
    assert [row["origin"] for row in listed if not row["service_tier"]] == ["user"]
    assert {row["origin"] for row in listed if row["service_tier"]} == {"book"}
    file.write_text(run("list", "--csv").stdout)
    assert ",2.5," in file.read_text()
    assert f"read {len(listed)} prices" in run("import", str(file), "--dry-run").stdout


def test_mistakes_in_the_file_are_named_and_nothing_is_imported(store: Store, tmp_path: Path) -> None:
    """One line on stderr for each, with the line of the file; exit code 2."""
    file = tmp_path / "own.csv"
    file.write_text("provider,model,input\nopenai,x,-1\nopenai,y,1\nopenai,z,?\n")
    result = run("import", str(file), code=2)
    assert result.stderr.splitlines() == [
        "error: own.csv: line 2: input: '-1' is not a price from 0 to 100,000",
        "error: own.csv: line 4: input: '?' is not a number; write US dollars as 2.50, without sign and separators",
    ]
    assert document("list") == []


def test_a_file_in_another_encoding_is_a_bad_file(store: Store, tmp_path: Path) -> None:
    """It is named, with what to do about it; exit code 2, as for other mistakes in a file."""
    file = tmp_path / "own.csv"
    file.write_bytes("provider,model,input\nopenai,modèle,1\n".encode("latin-1"))
    assert run("import", str(file), code=2).stderr == (
        "error: own.csv: line 2: this is not UTF-8 text; save the file as UTF-8\n"
    )
    assert document("list") == []


def test_what_it_would_cost_elsewhere(store: Store) -> None:
    """Sums for each model and for all, unknown where nothing is known, and nothing is written."""
    rows = document("reprice", "--as", "anthropic/claude-opus-4-1")
    assert {row["new_cost_usd"] for row in rows} == {10 * (100 * Decimal(15) + 10 * Decimal(75)) / 1_000_000}
    shown = run("reprice", "--as", "today")
    assert "unknown" in shown.stdout
    assert "nothing was written" in shown.stderr
    assert store.reader().session("s0").cost_usd is None
    run("reprice", "--session", "no-such-session", code=1)


def test_hostile_names_stay_text(store: Store) -> None:
    """A model's name cannot reach the terminal as an escape."""
    for shown in (run("unpriced"), run("reprice", "--dry-run"), run("update")):
        assert "\x1b" not in shown.output


def test_the_book_can_be_searched_without_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that genai-prices knows, as a table, as JSON, and as a file to start one's own from."""
    monkeypatch.setenv("OTEL_SESSIONS_STORE", "none")
    assert "claude-sonnet-4-5" in run("list", "--book", "anthropic/claude-sonnet").stdout
    assert run("list", "--book", "anthropic/claude-sonnet", "--csv").stdout.startswith("provider,model,")
    assert document("list", "--book", "no-such-model") == []
    run("list", "--json", "--csv", code=2)
