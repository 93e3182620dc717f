"""A running job seen from outside: what Kafka and Flink report, as metrics, a status page and a terminal view.

What a job's own processes report is in `telemetry`.
"""
