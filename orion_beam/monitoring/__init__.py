"""A running job seen from outside: what Kafka and Flink say of it, as metrics, a status page and a terminal view.

What a job's own processes say is in `telemetry`.
"""
