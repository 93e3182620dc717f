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
 * Kafka IO's source of one topic, which packs up to {@code maxRecords} records into one element, a {@link KafkaFrame}.
 *
 * <p>Kafka IO makes the splits, checkpoint marks, commits and watermarks. {@link TopicShare} says which subtasks get
 * the splits. This class is in Kafka IO's package because Kafka IO's source and reader are private to that package.
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
   * Reader of frames.
   *
   * <p>Kafka IO hands over {@linkplain RecordRun runs} of records. A run that this reader has taken counts as consumed
   * in Kafka IO's next checkpoint mark. The run therefore always goes into the current frame, whatever its size, and
   * never waits for the next frame. A frame holds at most {@code maxRecords} records, and fewer bytes than {@code
   * maxBytes} plus one record.
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
     * Waits for records for up to 400 ms.
     *
     * <p>Flink sleeps for 50 ms after each call of {@code advance()} that has found nothing. Kafka IO itself gives up
     * after 1 to 20 ms, and the sooner the more often it has found nothing. On a quiet topic most records would thus
     * wait for Flink to wake up. This method looks at least every 10 ms. Its caller holds Flink's checkpoint lock
     * meanwhile.
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
     * Packs the current run and the runs after it into a frame.
     *
     * <p>A frame is closed when the consumer has handed over all that it had, when it has no room for another run, or
     * {@code maxWaitMs} after its first record. Without the first rule, Kafka IO's {@code advance()} would wait 1 to 20
     * ms for the next records, and the longer the more often it has found some. On a topic where records trickle in,
     * the first record of a frame would wait until the frame is full.
     */
    private boolean fill(boolean available) throws IOException {
      if (!available) {
        current = null;
        return false;
      }
      // Kafka IO's timestamps never decrease, so the first record has the lowest timestamp of the frame.
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
