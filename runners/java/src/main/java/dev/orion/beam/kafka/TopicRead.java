package dev.orion.beam.kafka;

import java.io.Serializable;
import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * How a job reads a topic.
 *
 * @param consumer settings of the consumer, with the consumer group
 * @param topic topic
 * @param limits limits of a frame
 */
record TopicRead(HashMap<String, Object> consumer, String topic, FrameLimits limits) implements Serializable {
  /**
   * Age at which the consumer asks for its topic's partitions again. This is how a reader finds partitions that come
   * later. Kafka's own default is five minutes.
   */
  private static final String LOOK_EVERY_MS = "20000";

  private static final int SESSION_TIMEOUT_MS = 45_000; // Kafka's default

  /** Returns the settings of the reading consumer. */
  Map<String, Object> settings() {
    Map<String, Object> settings = new HashMap<>(consumer);
    settings.putIfAbsent(ConsumerConfig.METADATA_MAX_AGE_CONFIG, LOOK_EVERY_MS);
    settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
    settings.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
    settings.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
    return settings;
  }

  String group() {
    return (String) consumer.get(ConsumerConfig.GROUP_ID_CONFIG);
  }

  int maxPollRecords() {
    return number(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, ConsumerConfig.DEFAULT_MAX_POLL_RECORDS);
  }

  int lookEveryMs() {
    return number(ConsumerConfig.METADATA_MAX_AGE_CONFIG, Integer.parseInt(LOOK_EVERY_MS));
  }

  int sessionTimeoutMs() {
    return number(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG, SESSION_TIMEOUT_MS);
  }

  private int number(String name, int otherwise) {
    Object given = consumer.get(name);
    return given == null ? otherwise : Integer.parseInt(given.toString().trim());
  }

  /** Leaves out the consumer's settings, which may hold a password. */
  @Override
  public String toString() {
    return topic;
  }
}
