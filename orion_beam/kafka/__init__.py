"""A client library for Kafka: log-in, retries, admin calls, offset ranges, columns in and out.

It knows no job and no CDR.
"""

CONFIG_VARIABLE = "ORION_KAFKA_CONFIG"
"""Names the file of properties with which clients log in; `orion-beam --kafka-config` sets it."""
