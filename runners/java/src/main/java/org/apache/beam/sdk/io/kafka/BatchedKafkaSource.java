package org.apache.beam.sdk.io.kafka;

import dev.orion.beam.KafkaFrame;
import java.io.IOException;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.beam.sdk.coders.ByteArrayCoder;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.io.UnboundedSource;
import org.apache.beam.sdk.options.PipelineOptions;
import org.apache.beam.sdk.values.KV;
import org.joda.time.Instant;

/**
 * Kafka IO's own source of one topic, with up to {@code maxRecords} records packed into one element, a {@link
 * KafkaFrame}.
 *
 * <p>Splits, checkpoint marks, commits and watermarks are Kafka IO's. It stands in Kafka IO's package because the
 * source and its reader are private to that package.
 */
final class BatchedKafkaSource extends UnboundedSource<byte[], KafkaCheckpointMark> {
  private static final long serialVersionUID = 1L;

  private final UnboundedSource<KafkaRecord<byte[], byte[]>, KafkaCheckpointMark> records;
  private final String topic;
  private final FrameLimits limits;

  BatchedKafkaSource(
      UnboundedSource<KafkaRecord<byte[], byte[]>, KafkaCheckpointMark> records, String topic, FrameLimits limits) {
    this.records = records;
    this.topic = topic;
    this.limits = limits;
  }

  @Override
  public List<BatchedKafkaSource> split(int desiredNumSplits, PipelineOptions options) throws Exception {
    return records.split(desiredNumSplits, options).stream()
        .map(split -> new BatchedKafkaSource(split, topic, limits))
        .collect(Collectors.toList());
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
   * <p>A record that has been taken from Kafka IO's reader counts as consumed in its next checkpoint mark, so it always
   * goes into the current frame, whatever its size, and is never held back for the next one. A frame is therefore
   * closed after the record that reaches a limit: it holds less than {@code maxBytes} and one record.
   */
  private static final class Reader extends UnboundedReader<byte[]> {
    private final BatchedKafkaSource source;
    private final UnboundedReader<KafkaRecord<byte[], byte[]>> records;
    private final KafkaFrame frame;
    private byte[] current;
    private Instant currentTimestamp;

    Reader(BatchedKafkaSource source, UnboundedReader<KafkaRecord<byte[], byte[]>> records) {
      this.source = source;
      this.records = records;
      this.frame = new KafkaFrame(source.topic);
    }

    @Override
    public boolean start() throws IOException {
      return fill(records.start());
    }

    @Override
    public boolean advance() throws IOException {
      return fill(records.advance());
    }

    /**
     * Packs the record at hand and those after it.
     *
     * <p>Kafka IO's {@code advance()} itself waits for a record, 1 to 20 ms, longer the more often it has found one.
     * On a topic where records trickle in it always finds one, and would fill a whole frame before the first record
     * goes out. So a frame is closed once {@code maxWait} has passed since its first record, at most one such wait
     * later; and at once when Kafka IO has found nothing.
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
      do {
        addCurrent();
      } while (frame.records() < limits.maxRecords()
          && frame.bytes() < limits.maxBytes()
          && System.nanoTime() - closeAt < 0
          && records.advance());
      current = frame.write();
      return true;
    }

    private void addCurrent() {
      KafkaRecord<byte[], byte[]> record = records.getCurrent();
      KV<byte[], byte[]> kv = record.getKV();
      frame.add(
          record.getPartition(),
          record.getOffset(),
          record.getTimestamp(),
          kv.getKey(),
          kv.getValue(),
          record.getHeaders());
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
      records.close();
    }
  }
}
