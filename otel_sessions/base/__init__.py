"""Stage 0: what every stage may import, and what imports none of them.

names     attribute names on spans
paths     path grammar, session trace and step span ids
values    frozen values that travel between stages
settings  every setting, its environment variable and default
errors    the exception tree
guard     the one guard that keeps telemetry from breaking its host
context   the session in the OpenTelemetry context and in W3C baggage
attributes  many attributes on a span at once
"""
