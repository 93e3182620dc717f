"""Where a pipeline runs: direct, on Flink, and the embedded Kafka and Flink of development."""

from orion_beam.telemetry.logs import leave_out_notices

# A worker's process begins here, and imports Beam before it sets up its logging.
leave_out_notices()
