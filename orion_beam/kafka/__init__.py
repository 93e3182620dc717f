"""Kafka: frames of the batched read, offset ranges, the writer, topics."""
