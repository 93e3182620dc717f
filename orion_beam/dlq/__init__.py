"""The desk for dead letters: filters, statistics, views, reports, exports. It reads and never writes to Kafka.

Sending them back is in `redrive`.
"""
