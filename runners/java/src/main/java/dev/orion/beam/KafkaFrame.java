package dev.orion.beam;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;

/**
 * Packs Kafka records of one topic into one frame: columns in Arrow's buffer layout, which Python maps without touching
 * a row ({@code orion_beam/kafka/frames.py}).
 *
 * <p><b>Layout.</b> Everything is little endian. The header and each section start at a multiple of 8 bytes; the gaps
 * are zero. For n records with h headers in all:
 *
 * <pre>
 *   header   int32 magic 0x3142524F ("ORB1")    int32 version 1
 *            int32 n                            int32 h
 *            int32 length of topic              int32 length of key bytes
 *            int32 length of value bytes        int32 length of header key bytes
 *            int32 length of header value bytes int32 flags: 1 some key is null, 2 some value is null,
 *                                                            4 some header value is null
 *            topic, UTF-8 (at byte 40)
 *   sections offsets                  int64[n]
 *            timestamps               int64[n]    ms since the epoch, -1 when the record has none
 *            partitions               int32[n]
 *            key validity             bitmap of n, only with flag 1
 *            key offsets              int32[n+1]
 *            key bytes
 *            value validity           bitmap of n, only with flag 2
 *            value offsets            int32[n+1]
 *            value bytes
 *   if h > 0 header list offsets      int32[n+1]  record i has the headers from offset i up to offset i+1
 *            header key offsets       int32[h+1]
 *            header key bytes         UTF-8
 *            header value validity    bitmap of h, only with flag 4
 *            header value offsets     int32[h+1]
 *            header value bytes
 * </pre>
 *
 * <p>Bitmaps are Arrow's: bit i%8 of byte i/8 is set when the value is there. The frame ends after the last section,
 * padded to a multiple of 8.
 *
 * <p>A writer is used again for the next frame; the frame that it returned is not touched any more. Not thread-safe.
 */
public final class KafkaFrame {
  public static final int MAGIC = 0x3142524F;
  public static final int VERSION = 1;

  private static final int FIXED_HEADER_BYTES = 40;
  private static final int SOME_KEY_NULL = 1;
  private static final int SOME_VALUE_NULL = 2;
  private static final int SOME_HEADER_VALUE_NULL = 4;
  private static final int FIRST_CAPACITY = 64;

  private final byte[] topic;
  private final BytesColumn keys = new BytesColumn();
  private final BytesColumn values = new BytesColumn();
  private final BytesColumn headerKeys = new BytesColumn();
  private final BytesColumn headerValues = new BytesColumn();
  private long[] offsets = new long[FIRST_CAPACITY];
  private long[] timestamps = new long[FIRST_CAPACITY];
  private int[] partitions = new int[FIRST_CAPACITY];
  private int[] headerEnds = new int[FIRST_CAPACITY];
  private int records;

  public KafkaFrame(String topic) {
    this.topic = topic.getBytes(StandardCharsets.UTF_8);
  }

  /**
   * Adds one record. Its arrays are read when {@link #write} is called, and must not change before.
   *
   * @param timestamp ms since the epoch, -1 for none
   * @param key may be null, as may {@code value} and a header's value
   */
  public void add(
      int partition, long offset, long timestamp, byte[] key, byte[] value, Headers headers) {
    if (records == offsets.length) {
      int capacity = 2 * records;
      offsets = Arrays.copyOf(offsets, capacity);
      timestamps = Arrays.copyOf(timestamps, capacity);
      partitions = Arrays.copyOf(partitions, capacity);
      headerEnds = Arrays.copyOf(headerEnds, capacity);
    }
    partitions[records] = partition;
    offsets[records] = offset;
    timestamps[records] = timestamp;
    keys.add(key);
    values.add(value);
    for (Header header : headers) {
      headerKeys.add(header.key().getBytes(StandardCharsets.UTF_8));
      headerValues.add(header.value());
    }
    headerEnds[records] = headerKeys.size;
    records++;
  }

  /** Returns how many records have been added since the last {@link #write}. */
  public int records() {
    return records;
  }

  /** Returns the bytes of keys, values and headers that have been added since the last {@link #write}. */
  public long bytes() {
    return keys.bytes + values.bytes + headerKeys.bytes + headerValues.bytes;
  }

  /**
   * Returns the frame of what has been added, and starts the next one, empty.
   *
   * @throws ArithmeticException the frame would be larger than 2 GiB
   */
  public byte[] write() {
    int headers = headerKeys.size;
    ByteBuffer out = ByteBuffer.allocate(Math.toIntExact(frameBytes())).order(ByteOrder.LITTLE_ENDIAN);
    out.putInt(MAGIC).putInt(VERSION).putInt(records).putInt(headers).putInt(topic.length);
    out.putInt((int) keys.bytes).putInt((int) values.bytes);
    out.putInt((int) headerKeys.bytes).putInt((int) headerValues.bytes);
    out.putInt(
        (keys.nulls > 0 ? SOME_KEY_NULL : 0)
            | (values.nulls > 0 ? SOME_VALUE_NULL : 0)
            | (headerValues.nulls > 0 ? SOME_HEADER_VALUE_NULL : 0));
    out.put(topic);
    pad(out);
    out.asLongBuffer().put(offsets, 0, records);
    skip(out, Long.BYTES * records);
    out.asLongBuffer().put(timestamps, 0, records);
    skip(out, Long.BYTES * records);
    out.asIntBuffer().put(partitions, 0, records);
    skip(out, Integer.BYTES * records);
    keys.write(out);
    values.write(out);
    if (headers > 0) {
      out.putInt(0);
      out.asIntBuffer().put(headerEnds, 0, records);
      skip(out, Integer.BYTES * records);
      headerKeys.write(out);
      headerValues.write(out);
    }
    clear();
    return out.array();
  }

  private long frameBytes() {
    long bytes = padded(FIXED_HEADER_BYTES + topic.length);
    bytes += 2 * padded((long) Long.BYTES * records) + padded((long) Integer.BYTES * records);
    bytes += keys.frameBytes() + values.frameBytes();
    if (headerKeys.size > 0) {
      bytes += padded(Integer.BYTES * (records + 1L)) + headerKeys.frameBytes() + headerValues.frameBytes();
    }
    return bytes;
  }

  private void clear() {
    records = 0;
    keys.clear();
    values.clear();
    headerKeys.clear();
    headerValues.clear();
  }

  private static long padded(long bytes) {
    return (bytes + 7) & ~7L;
  }

  private static void pad(ByteBuffer out) {
    out.position((int) padded(out.position()));
  }

  private static void skip(ByteBuffer out, int bytes) {
    out.position(out.position() + bytes);
    pad(out);
  }

  /** A column of byte strings, some of them null. */
  private static final class BytesColumn {
    private byte[][] items = new byte[FIRST_CAPACITY][];
    private int size;
    private int nulls;
    private long bytes;

    void add(byte[] item) {
      if (size == items.length) {
        items = Arrays.copyOf(items, 2 * size);
      }
      items[size++] = item;
      if (item == null) {
        nulls++;
      } else {
        bytes += item.length;
      }
    }

    long frameBytes() {
      long validity = nulls > 0 ? padded((size + 7) / 8) : 0;
      return validity + padded(Integer.BYTES * (size + 1L)) + padded(bytes);
    }

    void write(ByteBuffer out) {
      if (nulls > 0) {
        byte[] validity = new byte[(size + 7) / 8];
        for (int i = 0; i < size; i++) {
          if (items[i] != null) {
            validity[i >> 3] |= (byte) (1 << (i & 7));
          }
        }
        out.put(validity);
        pad(out);
      }
      int end = 0;
      out.putInt(end);
      for (int i = 0; i < size; i++) {
        end += items[i] == null ? 0 : items[i].length;
        out.putInt(end);
      }
      pad(out);
      for (int i = 0; i < size; i++) {
        if (items[i] != null) {
          out.put(items[i]);
        }
      }
      pad(out);
    }

    /** Forgets the items, so that a record does not live on in memory until its slot is used again. */
    void clear() {
      Arrays.fill(items, 0, size, null);
      size = 0;
      nulls = 0;
      bytes = 0;
    }
  }
}
