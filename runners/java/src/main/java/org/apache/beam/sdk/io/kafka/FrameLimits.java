package org.apache.beam.sdk.io.kafka;

import java.io.Serializable;

/**
 * Limits of a frame. A frame is closed when it has no room for another run of records.
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

  private static final long RUNS_OF_A_FRAME = 64;

  FrameLimits {
    require("max_records", maxRecords, 1, MOST_RECORDS);
    require("max_bytes", maxBytes, 1, MOST_BYTES);
    require("max_wait_ms", maxWaitMs, 0, 60_000);
  }

  /**
   * Returns the most records of a run, which Kafka IO hands over at once. A run is small enough for a frame to come
   * close to its limit.
   */
  long runRecords() {
    return Math.max(1, maxRecords / RUNS_OF_A_FRAME);
  }

  /** Returns the number of bytes at which a run ends; the record that reaches it is the run's last. */
  long runBytes() {
    return Math.max(1, maxBytes / RUNS_OF_A_FRAME);
  }

  /** Returns whether a frame with this many records and bytes has room for another run. */
  boolean haveRoom(int records, long bytes) {
    return records + runRecords() <= maxRecords && bytes + runBytes() <= maxBytes;
  }

  private static void require(String name, long value, long least, long most) {
    if (value < least || value > most) {
      throw new IllegalArgumentException(name + " is " + value + ", must be from " + least + " to " + most);
    }
  }
}
