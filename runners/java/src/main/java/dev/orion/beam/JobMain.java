package dev.orion.beam;

import dev.orion.beam.kafka.LeaseOptions;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.UUID;
import org.apache.beam.model.pipeline.v1.RunnerApi;
import org.apache.beam.runners.flink.FlinkPipelineOptions;
import org.apache.beam.runners.flink.FlinkPipelineRunner;
import org.apache.beam.runners.fnexecution.provisioning.JobInfo;
import org.apache.beam.runners.jobsubmission.PortablePipelineJarUtils;
import org.apache.beam.sdk.io.FileSystems;
import org.apache.beam.sdk.options.PipelineOptionsFactory;
import org.apache.beam.sdk.util.construction.PipelineOptionsTranslation;
import org.apache.beam.sdk.util.construction.resources.PipelineResources;

/**
 * Main class of a job's jar: what Beam's {@link FlinkPipelineRunner} does, with an identity for this start of the jar.
 * Two starts of one jar are two jobs, and only one of them may hold the lease.
 */
public final class JobMain {
  private static final String LEASE = "--lease=";

  private JobMain() {}

  /**
   * Starts the job.
   *
   * @param args {@code --lease=orion/JOB/STARTED/HOST} for an identity that names where the job was submitted. Without
   *     it, the identity names this host.
   */
  public static void main(String[] args) throws Exception {
    FileSystems.setDefaultPipelineOptions(PipelineOptionsFactory.create());
    String name = PortablePipelineJarUtils.getDefaultJobName();
    RunnerApi.Pipeline pipeline = PortablePipelineJarUtils.getPipelineFromClasspath(name);
    FlinkPipelineOptions options =
        PipelineOptionsTranslation.fromProto(PortablePipelineJarUtils.getPipelineOptionsFromClasspath(name))
            .as(FlinkPipelineOptions.class);
    options.as(LeaseOptions.class).setOrionLease(leaseOf(args));
    String job = options.getJobName();
    FlinkPipelineRunner runner =
        new FlinkPipelineRunner(
            options,
            null,
            PipelineResources.detectClassPathResourcesToStage(JobMain.class.getClassLoader(), options));
    String invocation = job + "_" + UUID.randomUUID();
    runner.run(pipeline, JobInfo.create(invocation, job, "", PipelineOptionsTranslation.toProto(options)));
  }

  private static String leaseOf(String[] args) {
    for (String arg : args) {
      if (!arg.startsWith(LEASE)) {
        throw new IllegalArgumentException("unknown argument " + arg + "; the job's options are in the jar");
      }
      return arg.substring(LEASE.length());
    }
    String job = UUID.randomUUID().toString().replace("-", "").substring(0, 12);
    String now = ZonedDateTime.now(ZoneOffset.UTC).format(DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'"));
    return "orion/" + job + "/" + now + "/" + hostname().replaceAll("[^\\w.-]", "-");
  }

  private static String hostname() {
    try {
      return InetAddress.getLocalHost().getHostName();
    } catch (UnknownHostException e) {
      return "unknown";
    }
  }
}
