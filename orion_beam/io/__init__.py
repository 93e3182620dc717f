"""Where batches come from and go to: Kafka, files, Parquet, and the headers of a dead letter.

Every PTransform that reads or writes is here; clients that know no CDR are in `kafka`.
"""
