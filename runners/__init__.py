"""Places where a pipeline runs: this process, Flink, and the local Kafka and Flink for development."""

from orion_beam.telemetry.logs import leave_out_notices

# A worker process imports this package first, and Beam before it sets up its logging: the filter must be there by then.
leave_out_notices()
