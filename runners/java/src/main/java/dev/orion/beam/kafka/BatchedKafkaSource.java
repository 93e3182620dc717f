package dev.orion.beam.kafka;

import java.util.ArrayList;
import java.util.List;
import org.apache.beam.sdk.coders.ByteArrayCoder;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.io.UnboundedSource;
import org.apache.beam.sdk.options.PipelineOptions;

/**
 * Source of one topic, which packs up to {@code maxRecords} records into one element, a {@link
 * dev.orion.beam.KafkaFrame}.
 *
 * <p>A topic has a fixed number of splits, and each partition belongs to one of them by its number, whether it exists
 * already or not. There are more splits than subtasks, so that a job can go on from a savepoint with more subtasks.
 * Splits of one subtask share a consumer ({@link TopicReader}).
 */
final class BatchedKafkaSource extends UnboundedSource<byte[], KafkaOffsets> {
  private static final long serialVersionUID = 1L;

  /** Least number of splits of a topic, and so the number of subtasks among which a topic can always be shared out. */
  private static final int LEAST_SPLITS = 32;

  private final TopicRead read;
  private final TopicShare share;

  BatchedKafkaSource(TopicRead read, TopicShare share) {
    this.read = read;
    this.share = share;
  }

  /**
   * Makes the splits, and splits without records for subtasks that do not read the topic.
   *
   * <p>Beam's Flink source gives split i to subtask i modulo the number of subtasks. When the number of subtasks has
   * changed, Flink joins the lists of the old subtasks and cuts the result into equal pieces. The splits of a subtask
   * are therefore in an order in which each half, quarter and so on has an equal share of the partitions.
   */
  @Override
  public List<UnboundedSource<byte[], KafkaOffsets>> split(int subtasks, PipelineOptions options) {
    int first = share.firstOf(subtasks);
    int reading = share.count(subtasks);
    int rounds = 1;
    while (rounds * reading < LEAST_SPLITS) {
      rounds *= 2;
    }
    String lease = options.as(LeaseOptions.class).getOrionLease();
    List<UnboundedSource<byte[], KafkaOffsets>> splits = new ArrayList<>();
    for (int round = 0; round < rounds; round++) {
      // Integer.reverse() turns 0, 1, 2, 3 of four rounds into 0, 2, 1, 3.
      int place = rounds == 1 ? 0 : Integer.reverse(round) >>> (1 + Integer.numberOfLeadingZeros(rounds));
      for (int subtask = 0; subtask < subtasks; subtask++) {
        int index = subtask - first;
        boolean isReading = index >= 0 && index < reading;
        splits.add(
            isReading ? new KafkaSplit(read, lease, place * reading + index, rounds * reading) : new NoRecords());
      }
    }
    return splits;
  }

  @Override
  public UnboundedReader<byte[]> createReader(PipelineOptions options, KafkaOffsets mark) {
    throw new UnsupportedOperationException("a runner reads the splits");
  }

  @Override
  public Coder<KafkaOffsets> getCheckpointMarkCoder() {
    return KafkaOffsets.CODER;
  }

  @Override
  public Coder<byte[]> getOutputCoder() {
    return ByteArrayCoder.of();
  }
}
