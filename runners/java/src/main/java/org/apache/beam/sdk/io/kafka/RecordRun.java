package org.apache.beam.sdk.io.kafka;

import dev.orion.beam.KafkaFrame;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.internals.RecordHeaders;

/**
 * Successive records of one partition, in the place of the headers of the last of them.
 *
 * <p>Headers are the one part of a record that Kafka IO hands through without a look at it.
 */
final class RecordRun extends RecordHeaders {
  private final KafkaFrame records;
  private final Poll poll;

  private RecordRun(KafkaFrame records, Poll poll) {
    this.records = records;
    this.poll = poll;
  }

  /** Returns the record {@code last} with {@code records}, of which it is the last one, for its headers. */
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

  /** Returns the run that Kafka IO's record stands for. */
  static RecordRun of(KafkaRecord<byte[], byte[]> last) {
    return (RecordRun) last.getHeaders();
  }

  /** Adds the records to a frame, in order. */
  void appendTo(KafkaFrame frame) {
    frame.append(records);
    poll.runs--;
  }

  /** Returns whether the consumer had more records at hand when these were polled, or other runs of theirs are open. */
  boolean hasMoreBehind() {
    return poll.runs > 0 || poll.moreBehind;
  }

  /** The records that were polled together. It passes from the polling thread to the reading one. */
  static final class Poll {
    private int runs;
    private boolean moreBehind;

    void endsWithMoreBehind(boolean moreBehind) {
      this.moreBehind = moreBehind;
    }
  }
}
