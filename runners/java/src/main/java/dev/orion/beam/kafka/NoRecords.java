package dev.orion.beam.kafka;

import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import org.apache.beam.sdk.coders.ByteArrayCoder;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.io.UnboundedSource;
import org.apache.beam.sdk.options.PipelineOptions;
import org.apache.beam.sdk.transforms.windowing.BoundedWindow;
import org.joda.time.Instant;

/**
 * Split of a subtask that does not read a topic. Flink gives split i to subtask i, so subtasks before the first reading
 * one need a split, too. The split has no records and empty checkpoint marks, and does not hold back the watermark.
 */
final class NoRecords extends UnboundedSource<byte[], KafkaOffsets> {
  private static final long serialVersionUID = 1L;

  @Override
  public List<NoRecords> split(int desiredNumSplits, PipelineOptions options) {
    return List.of(this);
  }

  @Override
  public UnboundedReader<byte[]> createReader(PipelineOptions options, KafkaOffsets mark) {
    return new Reader(this);
  }

  @Override
  public Coder<KafkaOffsets> getCheckpointMarkCoder() {
    return KafkaOffsets.CODER;
  }

  @Override
  public Coder<byte[]> getOutputCoder() {
    return ByteArrayCoder.of();
  }

  private static final class Reader extends UnboundedReader<byte[]> {
    private final NoRecords source;

    Reader(NoRecords source) {
      this.source = source;
    }

    @Override
    public boolean start() {
      return false;
    }

    @Override
    public boolean advance() {
      return false;
    }

    @Override
    public byte[] getCurrent() {
      throw new NoSuchElementException();
    }

    @Override
    public Instant getCurrentTimestamp() {
      throw new NoSuchElementException();
    }

    @Override
    public Instant getWatermark() {
      return BoundedWindow.TIMESTAMP_MAX_VALUE;
    }

    @Override
    public CheckpointMark getCheckpointMark() {
      return new KafkaOffsets("", 0, Map.of(), null);
    }

    @Override
    public UnboundedSource<byte[], ?> getCurrentSource() {
      return source;
    }

    @Override
    public void close() {}
  }
}
