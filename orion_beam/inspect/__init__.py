"""Inspection of records: finds a record's output in Kafka or files, traces it through the stages, checks formats.

It also draws the graph of a job. It reads and never writes. Proof over all records belongs in `proof`.
"""
