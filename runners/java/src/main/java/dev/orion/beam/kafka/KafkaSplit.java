package dev.orion.beam.kafka;

import java.io.IOException;
import java.io.ObjectInputStream;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.beam.sdk.coders.ByteArrayCoder;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.io.UnboundedSource;
import org.apache.beam.sdk.options.PipelineOptions;
import org.joda.time.Instant;

/** The partitions of a topic whose numbers are {@code index} modulo {@code count}, also those that come later. */
final class KafkaSplit extends UnboundedSource<byte[], KafkaOffsets> {
  private static final long serialVersionUID = 1L;

  /**
   * How the submissions in this JVM read their topics, by lease and topic. A split that Flink restores from a savepoint
   * has the settings of another submission. The present one's were deserialized here just before, with its graph.
   */
  private static final Map<String, TopicRead> SUBMITTED = new ConcurrentHashMap<>();

  private final TopicRead read;
  private final String lease;
  private final int index;
  private final int count;

  KafkaSplit(TopicRead read, String lease, int index, int count) {
    this.read = read;
    this.lease = lease;
    this.index = index;
    this.count = count;
  }

  boolean owns(int partition) {
    return partition % count == index;
  }

  private void readObject(ObjectInputStream in) throws IOException, ClassNotFoundException {
    in.defaultReadObject();
    SUBMITTED.put(lease + "/" + read.topic(), read);
  }

  @Override
  public List<KafkaSplit> split(int desiredNumSplits, PipelineOptions options) {
    return List.of(this);
  }

  @Override
  public UnboundedReader<byte[]> createReader(PipelineOptions options, KafkaOffsets mark) {
    LeaseOptions submission = options.as(LeaseOptions.class);
    String present = submission.getOrionLease();
    TopicRead current = present.isEmpty() ? read : SUBMITTED.getOrDefault(present + "/" + read.topic(), read);
    TopicReader reader = TopicReader.ofThisTask(current, present, submission.getOrionSecondJob());
    reader.add(this, mark);
    return new Reader(this, reader);
  }

  @Override
  public Coder<KafkaOffsets> getCheckpointMarkCoder() {
    return KafkaOffsets.CODER;
  }

  @Override
  public Coder<byte[]> getOutputCoder() {
    return ByteArrayCoder.of();
  }

  @Override
  public String toString() {
    return read.topic() + " " + index + "/" + count;
  }

  /** Reader of a split. The first one that is started hands out the frames of all splits of its {@link TopicReader}. */
  private static final class Reader extends UnboundedReader<byte[]> {
    private final KafkaSplit split;
    private final TopicReader reader;
    private boolean isFirst;
    private byte[] current;
    private Instant currentTimestamp;
    private boolean isClosed;

    Reader(KafkaSplit split, TopicReader reader) {
      this.split = split;
      this.reader = reader;
    }

    @Override
    public boolean start() throws IOException {
      isFirst = reader.start();
      return advance();
    }

    @Override
    public boolean advance() throws IOException {
      current = isFirst ? reader.take() : null;
      currentTimestamp = Instant.now();
      return current != null;
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
      return Instant.now();
    }

    @Override
    public CheckpointMark getCheckpointMark() {
      return reader.mark(split);
    }

    @Override
    public UnboundedSource<byte[], ?> getCurrentSource() {
      return split;
    }

    @Override
    public void close() {
      if (!isClosed) {
        isClosed = true;
        reader.close(split);
      }
    }
  }
}
