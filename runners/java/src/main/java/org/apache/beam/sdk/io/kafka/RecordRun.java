package org.apache.beam.sdk.io.kafka;

import dev.orion.beam.KafkaFrame;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.internals.RecordHeaders;

/**
 * Run of successive records of one partition. The last record of the run carries all of them in place of its headers.
 *
 * <p>Headers are the one part of a record that Kafka IO passes on without reading it.
 */
final class RecordRun extends RecordHeaders {
  private final KafkaFrame records;
  private final Poll poll;

  private RecordRun(KafkaFrame records, Poll poll) {
    this.records = records;
    this.poll = poll;
  }

  /**
   * Returns the record {@code last} with a run in place of its headers; {@code last} is the last of {@code records}.
   */
  static ConsumerRecord<byte[], byte[]> carriedBy(
      ConsumerRecord<byte[], byte[]> last, KafkaFrame records, Poll poll) {
    poll.runs++;
    return new ConsumerRecord<>(
        last.topic(),
        last.partition(),
        last.offset(),
        last.timestamp(),
        last.timestampType(),
        last.serializedKeySize(),
        last.serializedValueSize(),
        last.key(),
        last.value(),
        new RecordRun(records, poll),
        last.leaderEpoch());
  }

  /** Returns the run that a record of Kafka IO carries. */
  static RecordRun of(KafkaRecord<byte[], byte[]> last) {
    return (RecordRun) last.getHeaders();
  }

  /** Appends the run's records to a frame, in order. */
  void appendTo(KafkaFrame frame) {
    frame.append(records);
    poll.runs--;
  }

  /**
   * Returns whether more records are ready: other runs of the same poll that are not in a frame yet, or records that
   * the consumer had when it returned from the poll.
   */
  boolean hasMoreBehind() {
    return poll.runs > 0 || poll.moreBehind;
  }

  /** State of a poll, shared by its runs. Kafka IO passes it from the polling thread to the reading thread. */
  static final class Poll {
    private int runs;
    private boolean moreBehind;

    void endsWithMoreBehind(boolean moreBehind) {
      this.moreBehind = moreBehind;
    }
  }
}
