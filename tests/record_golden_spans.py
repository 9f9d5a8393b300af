"""Keeps what ``golden_agent.py`` or ``golden_ai_sdk.mjs`` prints, for products that cannot live beside the tests' SDKs.

``golden_agent.py litellm litellm | record_golden_spans.py litellm "litellm 1.106.2, openai 2.54.0"`` writes
``golden_spans/litellm.json``. Long texts are cut, except where numbers are read from them.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_LONGEST = 120
_READ = ("usage", "output.value", "cost")


def _cut(attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value[:_LONGEST] if isinstance(value, str) and not any(part in name.lower() for part in _READ) else value
        for name, value in attributes.items()
        if value not in ("", None) and not name.endswith(("stacktrace", "stack_trace"))
    }


def main() -> None:
    name, written_by = sys.argv[1:]
    [printed] = (json.loads(line) for line in sys.stdin if line.startswith('{"run"'))
    for span in printed["spans"]:
        span["attributes"] = _cut(span["attributes"])
        span["events"] = [[event, time, _cut(attributes)] for event, time, attributes in span["events"]]
    lines = ",\n".join(json.dumps(span) for span in printed["spans"])
    head = {"written_by": written_by, "recorded": f"{datetime.now(UTC):%Y-%m-%d}", "run": printed["run"]}
    kept = f'{json.dumps(head)[:-1]}, "spans": [\n{lines}\n]}}\n'
    (Path(__file__).parent / "golden_spans" / f"{name}.json").write_text(kept)


main()
