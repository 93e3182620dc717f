package peers;

import java.nio.file.Path;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/**
 * What every peer on Flink gets on its command line: BOOTSTRAP PARALLELISM GROUP REFERENCE CHECKPOINTS.
 *
 * @param reference directory of the reference data
 * @param checkpoints directory of the checkpoints
 */
record Job(
        String bootstrapServers, int parallelism, String group, Path reference, Path checkpoints) {
    static final int ARGUMENTS = 5;

    static Job of(String[] args) {
        return new Job(
                args[0], Integer.parseInt(args[1]), args[2], Path.of(args[3]), Path.of(args[4]));
    }

    /** Flink in this JVM, tuned as far as a job of this kind can be: one chain without a shuffle, objects reused. */
    StreamExecutionEnvironment environment() {
        Configuration settings = new Configuration();
        settings.setString("pipeline.object-reuse", "true");
        settings.setString("execution.checkpointing.interval", "10 s");
        settings.setString("execution.checkpointing.mode", "AT_LEAST_ONCE");
        settings.setString("execution.checkpointing.dir", checkpoints.toUri().toString());
        settings.setString("state.backend.type", "hashmap");
        settings.setString("pipeline.auto-watermark-interval", "0 ms");
        settings.setString("taskmanager.memory.managed.size", "16m");
        settings.setString("table.local-time-zone", "Europe/Paris");
        // Both sinks of the SQL read one view; without this, it would be computed once for each.
        settings.setString("table.optimizer.reuse-optimize-block-with-digest-enabled", "true");
        return StreamExecutionEnvironment.createLocalEnvironment(parallelism, settings);
    }
}
