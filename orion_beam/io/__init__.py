"""Sources and sinks of batches: Kafka, files, Parquet, and the conversion between dead letters and messages.

Every PTransform that reads or writes belongs here. Clients that know no CDR belong in `kafka`,
and the names of a dead letter's headers in `schemas.dead_letter`.
"""
