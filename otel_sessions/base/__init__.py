"""Stage 0: what every stage may import, and what imports none of them.

names     attribute names on spans
paths     path grammar, session trace and step span ids
values    frozen values that travel between stages
group     spans column by column, which travel between the stages behind the queue
settings  every setting, its environment variable and default
errors    the exception tree
guard     the one guard that keeps telemetry from breaking its host
threads   threads of our own, real ones also beside gevent
context   the session in the OpenTelemetry context and in W3C baggage
attributes  many attributes on a span at once
"""
