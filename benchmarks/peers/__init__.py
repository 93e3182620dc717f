"""The same work in other engines, and two ceilings, to measure ORION Beam against: see `benchmarks.side_by_side`.

Every peer reads `cdr.raw.FR`, checks, normalizes and enriches each record, writes it to `cdr.final` as Avro, and writes
what it rejects to `cdr.dlq` with its own key and bytes. `work.handle` says record by record what must come out.
"""
