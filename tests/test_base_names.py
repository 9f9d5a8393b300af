"""Attribute names that stand in Python and in SQL."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from otel_sessions.base import names

SCHEMA = files("otel_sessions") / "store" / "schema"


def texts(found: str) -> list[str]:
    return re.findall(r"'([^']+)'", found)


@pytest.mark.parametrize(("name", "kinds"), names.LLM_SPANS.items())
def test_what_is_an_llm_call_in_process_is_one_in_the_store(name: str, kinds: frozenset[str]) -> None:
    """The store reads the same attribute for what a span is, and takes each of the values for an LLM operation."""
    read = re.search(r"\('kind', 1, \[([^]]*)\]", (SCHEMA / "000_attribute_names.sql").read_text(encoding="utf-8"))
    renamed = re.search(
        r"transform\(\s*kind,\s*\[([^]]*)\],\s*\[([^]]*)\]",
        (SCHEMA / "002_typed_spans.sql").read_text(encoding="utf-8"),
    )
    assert read
    assert renamed
    operations = dict(zip(*map(texts, renamed.groups()), strict=True))
    assert name in texts(read[1])
    assert {operations.get(kind.lower(), kind.lower()) for kind in kinds} <= names.LLM_OPERATIONS
