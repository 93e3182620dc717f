"""Checks before a job is submitted: those of Kafka, and the findings that `orion-beam doctor` shows.

Checks of this machine, of Flink and of workers are in `runners/doctor`.
"""
