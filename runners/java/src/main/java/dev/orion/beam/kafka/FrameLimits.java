package dev.orion.beam.kafka;

import java.io.Serializable;

/**
 * Limits of a frame. A frame is closed by the record that reaches one of them.
 *
 * @param maxRecords most records of a frame
 * @param maxBytes bytes of keys, values and headers at which a frame is closed
 * @param maxWaitMs most time between a frame's first record and its end
 */
record FrameLimits(long maxRecords, long maxBytes, long maxWaitMs) implements Serializable {
  /**
   * Upper bound of maxBytes. A frame is a Java array of at most 2 GiB; the rest is for the record that crosses the
   * limit.
   */
  private static final long MOST_BYTES = 1L << 30;

  /** Upper bound of maxRecords: Python takes this many for one batch, so more gain nothing. */
  private static final long MOST_RECORDS = 1L << 20;

  FrameLimits {
    require("max_records", maxRecords, 1, MOST_RECORDS);
    require("max_bytes", maxBytes, 1, MOST_BYTES);
    require("max_wait_ms", maxWaitMs, 0, 60_000);
  }

  /** Returns whether a frame with this many records and bytes is full. */
  boolean areReached(int records, long bytes) {
    return records >= maxRecords || bytes >= maxBytes;
  }

  private static void require(String name, long value, long least, long most) {
    if (value < least || value > most) {
      throw new IllegalArgumentException(name + " is " + value + ", must be from " + least + " to " + most);
    }
  }
}
