"""Checks of whether this machine, a Flink cluster and its workers are ready for a job.

Checks of Kafka are in `orion_beam/doctor`.
"""
