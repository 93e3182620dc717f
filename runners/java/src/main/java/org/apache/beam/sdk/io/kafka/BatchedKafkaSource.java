package org.apache.beam.sdk.io.kafka;

import dev.orion.beam.KafkaFrame;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.TimeUnit;
import org.apache.beam.sdk.coders.ByteArrayCoder;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.io.UnboundedSource;
import org.apache.beam.sdk.options.PipelineOptions;
import org.joda.time.Instant;

/**
 * Kafka IO's own source of one topic, with up to {@code maxRecords} records packed into one element, a {@link
 * KafkaFrame}.
 *
 * <p>Splits, checkpoint marks, commits and watermarks are Kafka IO's; which subtasks they are for says {@link
 * TopicShare}. It stands in Kafka IO's package because the
 * source and its reader are private to that package.
 */
final class BatchedKafkaSource extends UnboundedSource<byte[], KafkaCheckpointMark> {
  private static final long serialVersionUID = 1L;

  private final UnboundedSource<KafkaRecord<byte[], byte[]>, KafkaCheckpointMark> records;
  private final String topic;
  private final TopicShare share;
  private final FrameLimits limits;
  private final JobLease lease;

  BatchedKafkaSource(
      UnboundedSource<KafkaRecord<byte[], byte[]>, KafkaCheckpointMark> records,
      String topic,
      TopicShare share,
      FrameLimits limits,
      JobLease lease) {
    this.records = records;
    this.topic = topic;
    this.share = share;
    this.limits = limits;
    this.lease = lease;
  }

  @Override
  public List<UnboundedSource<byte[], KafkaCheckpointMark>> split(int desiredNumSplits, PipelineOptions options)
      throws Exception {
    List<UnboundedSource<byte[], KafkaCheckpointMark>> splits = new ArrayList<>();
    for (int i = 0; i < share.firstOf(desiredNumSplits); i++) {
      splits.add(new NoRecords(getCheckpointMarkCoder()));
    }
    records.split(share.count(desiredNumSplits), options).stream()
        .map(split -> new BatchedKafkaSource(split, topic, share, limits, lease))
        .forEach(splits::add);
    return splits;
  }

  @Override
  public UnboundedReader<byte[]> createReader(PipelineOptions options, KafkaCheckpointMark checkpointMark)
      throws IOException {
    return new Reader(this, records.createReader(options, checkpointMark));
  }

  @Override
  public Coder<KafkaCheckpointMark> getCheckpointMarkCoder() {
    return records.getCheckpointMarkCoder();
  }

  @Override
  public Coder<byte[]> getOutputCoder() {
    return ByteArrayCoder.of();
  }

  /**
   * Reads frames.
   *
   * <p>Kafka IO hands over {@linkplain RecordRun runs} of records. One that has been taken from its reader counts as
   * consumed in its next checkpoint mark, so it always goes into the current frame, whatever its size, and is never
   * held back for the next one. A frame holds at most {@code maxRecords}, and less than {@code maxBytes} and one record.
   */
  private static final class Reader extends UnboundedReader<byte[]> {
    private static final long LONGEST_WAIT_NS = TimeUnit.MILLISECONDS.toNanos(400);

    private final BatchedKafkaSource source;
    private final UnboundedReader<KafkaRecord<byte[], byte[]>> records;
    private final KafkaFrame frame;
    private byte[] current;
    private Instant currentTimestamp;
    private boolean holdsLease;

    Reader(BatchedKafkaSource source, UnboundedReader<KafkaRecord<byte[], byte[]>> records) {
      this.source = source;
      this.records = records;
      this.frame = new KafkaFrame(source.topic);
    }

    @Override
    public boolean start() throws IOException {
      source.lease.take();
      holdsLease = true;
      return fill(await(records.start()));
    }

    @Override
    public boolean advance() throws IOException {
      return fill(await(records.advance()));
    }

    /**
     * Waits for records, for some hundred milliseconds.
     *
     * <p>Flink sleeps for 50 ms after each call of {@code advance()} that has found nothing, and Kafka IO gives up
     * after 1 to 20 ms, the sooner the more often it has found nothing: so on a quiet topic most records would wait for
     * a sleeper. Here a wait is 10 ms at most. The caller holds the checkpoint lock meanwhile.
     */
    private boolean await(boolean available) throws IOException {
      long giveUpAt = System.nanoTime() + LONGEST_WAIT_NS;
      for (long pauseMs = 1; !available && System.nanoTime() - giveUpAt < 0; pauseMs = Math.min(2 * pauseMs, 8)) {
        try {
          Thread.sleep(pauseMs);
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
          return false;
        }
        available = records.advance();
      }
      return available;
    }

    /**
     * Packs the run at hand and those after it.
     *
     * <p>A frame is closed once the consumer has given all that it had, or {@code maxWait} after its first record.
     * Kafka IO's {@code advance()} would wait for the next records, 1 to 20 ms, longer the more often it has found some:
     * on a topic where records trickle in a whole frame would be filled before the first record goes out.
     */
    private boolean fill(boolean available) throws IOException {
      if (!available) {
        current = null;
        return false;
      }
      // Records of a partition come in order, and Kafka IO's timestamps never step back: the first is the frame's lowest.
      currentTimestamp = records.getCurrentTimestamp();
      FrameLimits limits = source.limits;
      long closeAt = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(limits.maxWaitMs());
      RecordRun run;
      do {
        run = RecordRun.of(records.getCurrent());
        run.appendTo(frame);
      } while (run.hasMoreBehind()
          && limits.haveRoom(frame.records(), frame.bytes())
          && System.nanoTime() - closeAt < 0
          && records.advance());
      current = frame.write();
      return true;
    }

    @Override
    public byte[] getCurrent() {
      if (current == null) {
        throw new NoSuchElementException();
      }
      return current;
    }

    @Override
    public Instant getCurrentTimestamp() {
      if (current == null) {
        throw new NoSuchElementException();
      }
      return currentTimestamp;
    }

    @Override
    public Instant getWatermark() {
      return records.getWatermark();
    }

    @Override
    public CheckpointMark getCheckpointMark() {
      return records.getCheckpointMark();
    }

    @Override
    public long getSplitBacklogBytes() {
      return records.getSplitBacklogBytes();
    }

    @Override
    public UnboundedSource<byte[], ?> getCurrentSource() {
      return source;
    }

    @Override
    public void close() throws IOException {
      if (holdsLease) {
        source.lease.giveBack();
        holdsLease = false;
      }
      records.close();
    }
  }
}
