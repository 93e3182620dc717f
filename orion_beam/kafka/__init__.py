"""Kafka: frames of the batched read, offset ranges, the writer, topics."""

CONFIG_VARIABLE = "ORION_KAFKA_CONFIG"
"""Names the file of properties with which clients log in; `orion-beam --kafka-config` sets it."""
