package dev.orion.beam;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.BitSet;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;

/**
 * Writer of frames: Kafka records of one topic as columns in Arrow's buffer layout, which Python maps without touching
 * a row ({@code orion_beam/io/frames.py}).
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
 * <p>A record is copied when it is added, while it is in the processor's cache. Many small arrays that live until the
 * frame is written would cost more in garbage collection than the copy. A writer can be reused for the next frame, and
 * does not touch a frame that it has returned. Not thread-safe.
 */
public final class KafkaFrame {
  public static final int MAGIC = 0x3142524F;
  public static final int VERSION = 1;

  private static final int FIXED_HEADER_BYTES = 40;
  private static final int SOME_KEY_NULL = 1;
  private static final int SOME_VALUE_NULL = 2;
  private static final int SOME_HEADER_VALUE_NULL = 4;
  private static final int FIRST_CAPACITY = 64;
  private static final int MOST_ITEMS = Integer.MAX_VALUE - 8; // largest array that JVMs allocate

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
   * Adds one record.
   *
   * @param timestamp milliseconds since the epoch; -1 for a record without a timestamp
   * @param key key, or null; {@code value} and the value of a header may be null, too
   * @throws ArithmeticException if the frame would be larger than 2 GiB; {@link #append} throws it, too
   */
  public void add(
      int partition, long offset, long timestamp, byte[] key, byte[] value, Headers headers) {
    reserve(1);
    partitions[records] = partition;
    offsets[records] = offset;
    timestamps[records] = timestamp;
    keys.add(key);
    values.add(value);
    // toArray() allocates nothing for a record without headers; an iterator would.
    for (Header header : headers.toArray()) {
      headerKeys.add(header.key().getBytes(StandardCharsets.UTF_8));
      headerValues.add(header.value());
    }
    headerEnds[records] = headerKeys.size;
    records++;
  }

  /** Adds copies of the records of another writer. */
  public void append(KafkaFrame other) {
    reserve(other.records);
    System.arraycopy(other.partitions, 0, partitions, records, other.records);
    System.arraycopy(other.offsets, 0, offsets, records, other.records);
    System.arraycopy(other.timestamps, 0, timestamps, records, other.records);
    for (int i = 0; i < other.records; i++) {
      headerEnds[records + i] = headerKeys.size + other.headerEnds[i];
    }
    keys.append(other.keys);
    values.append(other.values);
    headerKeys.append(other.headerKeys);
    headerValues.append(other.headerValues);
    records += other.records;
  }

  private void reserve(int more) {
    int capacity = grown(offsets.length, records, more);
    if (capacity != offsets.length) {
      offsets = Arrays.copyOf(offsets, capacity);
      timestamps = Arrays.copyOf(timestamps, capacity);
      partitions = Arrays.copyOf(partitions, capacity);
      headerEnds = Arrays.copyOf(headerEnds, capacity);
    }
  }

  /** Returns the number of records added since the last {@link #write}. */
  public int records() {
    return records;
  }

  /** Returns the number of bytes of keys, values and headers added since the last {@link #write}. */
  public long bytes() {
    return (long) keys.bytes + values.bytes + headerKeys.bytes + headerValues.bytes;
  }

  /**
   * Returns the frame of the added records, and starts an empty one.
   *
   * @throws ArithmeticException if the frame would be larger than 2 GiB
   */
  public byte[] write() {
    int headers = headerKeys.size;
    ByteBuffer out = ByteBuffer.allocate(Math.toIntExact(frameBytes())).order(ByteOrder.LITTLE_ENDIAN);
    out.putInt(MAGIC).putInt(VERSION).putInt(records).putInt(headers).putInt(topic.length);
    out.putInt(keys.bytes).putInt(values.bytes);
    out.putInt(headerKeys.bytes).putInt(headerValues.bytes);
    out.putInt(
        (keys.hasNulls() ? SOME_KEY_NULL : 0)
            | (values.hasNulls() ? SOME_VALUE_NULL : 0)
            | (headerValues.hasNulls() ? SOME_HEADER_VALUE_NULL : 0));
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

  /**
   * Returns a capacity for {@code more} items after {@code size}: the present one if it suffices, else at least twice
   * it.
   */
  private static int grown(int capacity, int size, int more) {
    int needed = Math.addExact(size, more);
    return needed <= capacity ? capacity : Math.max(needed, (int) Math.min(2L * capacity, MOST_ITEMS));
  }

  /** A column of byte strings, which may be null. */
  private static final class BytesColumn {
    private byte[] data = new byte[FIRST_CAPACITY];
    private int[] ends = new int[FIRST_CAPACITY];
    private final BitSet isNull = new BitSet();
    private int size;
    private int bytes;

    void add(byte[] item) {
      if (item == null) {
        isNull.set(size);
      } else {
        data = withRoom(item.length);
        System.arraycopy(item, 0, data, bytes, item.length);
        bytes += item.length;
      }
      reserveEnds(1);
      ends[size++] = bytes;
    }

    void append(BytesColumn other) {
      for (int i = other.isNull.nextSetBit(0); i >= 0; i = other.isNull.nextSetBit(i + 1)) {
        isNull.set(size + i);
      }
      data = withRoom(other.bytes);
      System.arraycopy(other.data, 0, data, bytes, other.bytes);
      reserveEnds(other.size);
      for (int i = 0; i < other.size; i++) {
        ends[size + i] = bytes + other.ends[i];
      }
      size += other.size;
      bytes += other.bytes;
    }

    private byte[] withRoom(int more) {
      int capacity = grown(data.length, bytes, more);
      return capacity == data.length ? data : Arrays.copyOf(data, capacity);
    }

    private void reserveEnds(int more) {
      int capacity = grown(ends.length, size, more);
      if (capacity != ends.length) {
        ends = Arrays.copyOf(ends, capacity);
      }
    }

    boolean hasNulls() {
      return !isNull.isEmpty();
    }

    long frameBytes() {
      long validity = hasNulls() ? padded((size + 7) / 8) : 0;
      return validity + padded(Integer.BYTES * (size + 1L)) + padded(bytes);
    }

    void write(ByteBuffer out) {
      if (hasNulls()) {
        BitSet isValid = (BitSet) isNull.clone();
        isValid.flip(0, size);
        out.put(Arrays.copyOf(isValid.toByteArray(), (size + 7) / 8));
        pad(out);
      }
      out.putInt(0);
      out.asIntBuffer().put(ends, 0, size);
      skip(out, Integer.BYTES * size);
      out.put(data, 0, bytes);
      pad(out);
    }

    void clear() {
      isNull.clear();
      size = 0;
      bytes = 0;
    }
  }
}
