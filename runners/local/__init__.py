"""Kafka and Flink on this machine, for development and tests.

Nothing here is used by a job in production.
"""
