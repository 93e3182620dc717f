"""Desk for dead letters: filters, statistics, views, reports and exports. It reads Kafka and never writes to it.

Code that sends dead letters back belongs in `redrive`.
"""
