"""What is checked before a job is submitted: Kafka, and the findings that `orion-beam doctor` shows.

Checks of this machine, of Flink and of workers are in `runners/doctor`.
"""
