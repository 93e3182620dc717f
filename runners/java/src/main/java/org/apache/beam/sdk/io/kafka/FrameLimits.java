package org.apache.beam.sdk.io.kafka;

import java.io.Serializable;

/**
 * When a frame is closed: at the first limit that it reaches.
 *
 * @param maxRecords records
 * @param maxBytes bytes of keys, values and headers
 * @param maxWaitMs time since the frame's first record
 */
record FrameLimits(long maxRecords, long maxBytes, long maxWaitMs) implements Serializable {
  /** Frames are Java arrays, at most 2 GiB; this leaves room for the record that crosses the limit. */
  private static final long MOST_BYTES = 1L << 30;

  /** As many as Python takes for one batch; more gains nothing. */
  private static final long MOST_RECORDS = 1L << 20;

  FrameLimits {
    require("max_records", maxRecords, 1, MOST_RECORDS);
    require("max_bytes", maxBytes, 1, MOST_BYTES);
    require("max_wait_ms", maxWaitMs, 0, 60_000);
  }

  private static void require(String name, long value, long least, long most) {
    if (value < least || value > most) {
      throw new IllegalArgumentException(name + " is " + value + ", must be from " + least + " to " + most);
    }
  }
}
