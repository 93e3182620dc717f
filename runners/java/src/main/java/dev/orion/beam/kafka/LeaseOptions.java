package dev.orion.beam.kafka;

import org.apache.beam.sdk.options.Default;
import org.apache.beam.sdk.options.Description;
import org.apache.beam.sdk.options.PipelineOptions;

/**
 * Identity of a submission. It is an option of the pipeline because a split that Flink restores from a savepoint is one
 * of the submission that made the savepoint, whereas the options are those of the present one.
 */
public interface LeaseOptions extends PipelineOptions {
  @Description("Identity of this submission: orion/JOB/STARTED/HOST. Without one, the job holds no lease.")
  @Default.String("")
  String getOrionLease();

  void setOrionLease(String lease);

  @Description("Whether this job may read beside the job that holds the lease.")
  @Default.Boolean(false)
  boolean getOrionSecondJob();

  void setOrionSecondJob(boolean isSecond);
}
