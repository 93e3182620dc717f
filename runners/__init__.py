"""Where a pipeline runs: direct, on Flink, and the embedded Kafka and Flink of development."""
