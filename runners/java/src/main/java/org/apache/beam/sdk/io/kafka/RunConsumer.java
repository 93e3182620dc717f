package org.apache.beam.sdk.io.kafka;

import dev.orion.beam.KafkaFrame;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/**
 * Consumer that Kafka IO reads with. For each run of polled records it returns only the last one, which carries the
 * whole run (see {@link RecordRun}).
 *
 * <p>Kafka IO's reader makes a name, a metric and a few objects for each record that it sees; that was a third of a
 * record's cost in Flink's JVM. All that Kafka IO keeps of a record is the offset to resume from, and for a run that is
 * the offset of the last record.
 */
final class RunConsumer extends KafkaConsumer<byte[], byte[]> {
  private final FrameLimits limits;
  private final int maxPollRecords;

  RunConsumer(Map<String, Object> config, FrameLimits limits) {
    super(config);
    this.limits = limits;
    Object given = config.get(ConsumerConfig.MAX_POLL_RECORDS_CONFIG);
    this.maxPollRecords =
        given == null ? ConsumerConfig.DEFAULT_MAX_POLL_RECORDS : Integer.parseInt(given.toString().trim());
  }

  /** Kafka IO 2.70 calls this one. */
  @Override
  @Deprecated
  public ConsumerRecords<byte[], byte[]> poll(long timeoutMs) {
    return inRuns(super.poll(timeoutMs));
  }

  @Override
  public ConsumerRecords<byte[], byte[]> poll(Duration timeout) {
    return inRuns(super.poll(timeout));
  }

  /**
   * Packs polled records into runs, and polls on without waiting until there are enough for a frame. The reading thread
   * then finds the next frame's records ready. Only packed records are kept, so that few records exist as Java objects
   * at a time.
   */
  private ConsumerRecords<byte[], byte[]> inRuns(ConsumerRecords<byte[], byte[]> polled) {
    if (polled.isEmpty()) {
      return polled;
    }
    Map<TopicPartition, List<ConsumerRecord<byte[], byte[]>>> runs = new HashMap<>();
    RecordRun.Poll poll = new RecordRun.Poll();
    long room = limits.maxRecords();
    while (true) {
      for (TopicPartition partition : polled.partitions()) {
        runs.computeIfAbsent(partition, key -> new ArrayList<>())
            .addAll(runsOf(partition.topic(), polled.records(partition), poll));
      }
      room -= polled.count();
      boolean hasMore = polled.count() >= maxPollRecords;
      if (!hasMore || room < maxPollRecords) {
        poll.endsWithMoreBehind(hasMore);
        return new ConsumerRecords<>(runs);
      }
      polled = super.poll(Duration.ZERO);
    }
  }

  private List<ConsumerRecord<byte[], byte[]>> runsOf(
      String topic, List<ConsumerRecord<byte[], byte[]>> records, RecordRun.Poll poll) {
    List<ConsumerRecord<byte[], byte[]>> runs = new ArrayList<>();
    KafkaFrame run = new KafkaFrame(topic);
    for (int i = 0; i < records.size(); i++) {
      ConsumerRecord<byte[], byte[]> record = records.get(i);
      run.add(
          record.partition(), record.offset(), record.timestamp(), record.key(), record.value(), record.headers());
      if (i == records.size() - 1 || run.records() >= limits.runRecords() || run.bytes() >= limits.runBytes()) {
        runs.add(RecordRun.carriedBy(record, run, poll));
        run = new KafkaFrame(topic);
      }
    }
    return runs;
  }
}
