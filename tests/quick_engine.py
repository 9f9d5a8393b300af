"""What makes chDB quick enough for a database per test, and changes no answer."""

UNCOMPILED = {"compile_expressions": "0", "compile_aggregate_expressions": "0"}
"""Without these settings the engine compiles the expressions of each new database anew: 0.4 of the 0.5 seconds that its
first insert takes."""
