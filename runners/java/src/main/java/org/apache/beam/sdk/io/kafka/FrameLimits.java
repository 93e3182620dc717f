package org.apache.beam.sdk.io.kafka;

import java.io.Serializable;

/**
 * When a frame is closed: when it has no room for one run of records more.
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

  private static final long RUNS_OF_A_FRAME = 64;

  FrameLimits {
    require("max_records", maxRecords, 1, MOST_RECORDS);
    require("max_bytes", maxBytes, 1, MOST_BYTES);
    require("max_wait_ms", maxWaitMs, 0, 60_000);
  }

  /**
   * Returns how many records of one partition Kafka IO hands over at once: few enough for a frame to come close to its
   * limit.
   */
  long runRecords() {
    return Math.max(1, maxRecords / RUNS_OF_A_FRAME);
  }

  /** Returns the bytes of a run. The record that reaches them is the run's last. */
  long runBytes() {
    return Math.max(1, maxBytes / RUNS_OF_A_FRAME);
  }

  /** Returns whether a frame of so many records and bytes takes one run more. */
  boolean haveRoom(int records, long bytes) {
    return records + runRecords() <= maxRecords && bytes + runBytes() <= maxBytes;
  }

  private static void require(String name, long value, long least, long most) {
    if (value < least || value > most) {
      throw new IllegalArgumentException(name + " is " + value + ", must be from " + least + " to " + most);
    }
  }
}
