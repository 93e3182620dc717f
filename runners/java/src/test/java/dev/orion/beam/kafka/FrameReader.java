package dev.orion.beam.kafka;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.record.TimestampType;

/** Parser of a frame into records, row by row, by the layout that {@link dev.orion.beam.KafkaFrame} documents. */
final class FrameReader {
  private final ByteBuffer in;
  private final int records;

  private FrameReader(byte[] frame) {
    in = ByteBuffer.wrap(frame).order(ByteOrder.LITTLE_ENDIAN);
    records = in.getInt(8);
  }

  static List<ConsumerRecord<byte[], byte[]>> records(byte[] frame) {
    return new FrameReader(frame).read();
  }

  private List<ConsumerRecord<byte[], byte[]>> read() {
    int headers = in.getInt(12);
    int flags = in.getInt(36);
    byte[] topic = new byte[in.getInt(16)];
    in.position(40).get(topic);
    align();
    long[] offsets = longs();
    long[] timestamps = longs();
    int[] partitions = ints(records);
    byte[][] keys = strings(records, (flags & 1) != 0);
    byte[][] values = strings(records, (flags & 2) != 0);
    int[] lists = headers > 0 ? ints(records + 1) : new int[records + 1];
    byte[][] headerKeys = headers > 0 ? strings(headers, false) : null;
    byte[][] headerValues = headers > 0 ? strings(headers, (flags & 4) != 0) : null;
    if (in.hasRemaining()) {
      throw new AssertionError(in.remaining() + " bytes after the last section");
    }
    List<ConsumerRecord<byte[], byte[]>> out = new ArrayList<>();
    for (int i = 0; i < records; i++) {
      RecordHeaders recordHeaders = new RecordHeaders();
      for (int h = lists[i]; h < lists[i + 1]; h++) {
        recordHeaders.add(new String(headerKeys[h], StandardCharsets.UTF_8), headerValues[h]);
      }
      out.add(
          new ConsumerRecord<>(
              new String(topic, StandardCharsets.UTF_8), partitions[i], offsets[i], timestamps[i],
              TimestampType.CREATE_TIME, -1, -1, keys[i], values[i], recordHeaders, java.util.Optional.empty()));
    }
    return out;
  }

  private byte[][] strings(int count, boolean nullable) {
    byte[] validity = new byte[(count + 7) / 8];
    if (nullable) {
      in.get(validity);
      align();
    }
    int[] offsets = ints(count + 1);
    byte[][] out = new byte[count][];
    for (int i = 0; i < count; i++) {
      byte[] item = new byte[offsets[i + 1] - offsets[i]];
      in.get(item);
      out[i] = nullable && (validity[i / 8] >> (i % 8) & 1) == 0 ? null : item;
    }
    align();
    return out;
  }

  private long[] longs() {
    long[] out = new long[records];
    in.asLongBuffer().get(out);
    in.position(in.position() + Long.BYTES * records);
    return out;
  }

  private int[] ints(int count) {
    int[] out = new int[count];
    in.asIntBuffer().get(out);
    in.position(in.position() + Integer.BYTES * count);
    align();
    return out;
  }

  private void align() {
    in.position((in.position() + 7) & ~7);
  }
}
