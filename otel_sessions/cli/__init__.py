"""The command line: ``otel-sessions demo | list | show | sql | migrate | settle | rebuild | doctor | explain | prices | spool``.

app        the program: options that all commands share, exit codes, errors on one line
reading    list, show, sql
upkeep     migrate, settle, rebuild, doctor; checks: what doctor looks at
explain    explain: which attribute of a span fed which column
prices     prices list, update, import, unpriced, map, reprice
spool      spool status, push, dead
demo       demo
views/     rows as lines of text; text: single values
output     where a command writes; document: as JSON
"""

from otel_sessions.cli import demo, explain, prices, reading, spool, upkeep
from otel_sessions.cli.app import main

__all__ = ["demo", "explain", "main", "prices", "reading", "spool", "upkeep"]
