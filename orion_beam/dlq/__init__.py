"""The desk for dead letters: what lies on cdr.dlq, why, and the safe way back to the raw topics."""
