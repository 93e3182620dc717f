"""What became of a record: where it lies in Kafka or files, what the stages say of it, whether a format holds.

It reads and never writes; proof over all records is in `proof`.
"""
