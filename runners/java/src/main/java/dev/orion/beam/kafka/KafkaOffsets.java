package dev.orion.beam.kafka;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.Map;
import java.util.TreeMap;
import org.apache.beam.sdk.coders.AtomicCoder;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.io.UnboundedSource.CheckpointMark;

/**
 * Checkpoint mark of a split: by partition, the offset to go on from.
 *
 * @param lease identity of the submission whose mark this is
 * @param takenMs time of the mark, in milliseconds since the epoch; 0 if the submission has not read any record
 * @param next offset of the next record of each partition of the split
 * @param reader reader that commits the offsets when the checkpoint is complete; null after a restore
 */
record KafkaOffsets(String lease, long takenMs, Map<Integer, Long> next, TopicReader reader) implements CheckpointMark {
  static final Coder<KafkaOffsets> CODER = new OffsetsCoder();

  @Override
  public void finalizeCheckpoint() {
    if (reader != null) {
      reader.commit(next);
    }
  }

  /** Coder: a version, the lease, the time, and the offsets. */
  private static final class OffsetsCoder extends AtomicCoder<KafkaOffsets> {
    private static final long serialVersionUID = 1L;
    private static final byte VERSION = 1;

    @Override
    public void encode(KafkaOffsets mark, OutputStream stream) throws IOException {
      DataOutputStream out = new DataOutputStream(stream);
      out.writeByte(VERSION);
      out.writeUTF(mark.lease);
      out.writeLong(mark.takenMs);
      out.writeInt(mark.next.size());
      for (Map.Entry<Integer, Long> entry : mark.next.entrySet()) {
        out.writeInt(entry.getKey());
        out.writeLong(entry.getValue());
      }
    }

    @Override
    public KafkaOffsets decode(InputStream stream) throws IOException {
      DataInputStream in = new DataInputStream(stream);
      byte version = in.readByte();
      if (version != VERSION) {
        throw new IOException("the checkpoint holds Kafka offsets of version " + version + ", not " + VERSION);
      }
      String lease = in.readUTF();
      long takenMs = in.readLong();
      Map<Integer, Long> next = new TreeMap<>();
      for (int left = in.readInt(); left > 0; left--) {
        next.put(in.readInt(), in.readLong());
      }
      return new KafkaOffsets(lease, takenMs, next, null);
    }
  }
}
