"""``python -m otel_sessions.cli``."""

from otel_sessions.cli import main

main()
