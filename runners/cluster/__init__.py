"""Jobs on a Flink cluster: built as a jar, submitted, stopped, upgraded."""
