"""Sources and sinks of batches: Kafka, files, Parquet, and the headers of a dead letter.

Every PTransform that reads or writes belongs here. Clients that know no CDR belong in `kafka`.
"""
