package dev.orion.beam.kafka;

import java.util.HashMap;
import java.util.Map;
import org.apache.beam.sdk.coders.ByteArrayCoder;
import org.apache.beam.sdk.expansion.ExternalTransformRegistrar;
import org.apache.beam.sdk.io.Read;
import org.apache.beam.sdk.transforms.ExternalTransformBuilder;
import org.apache.beam.sdk.transforms.PTransform;
import org.apache.beam.sdk.values.PBegin;
import org.apache.beam.sdk.values.PCollection;
import org.apache.kafka.clients.consumer.ConsumerConfig;

/**
 * External transform {@value #URN} for Python: reads one topic as frames of records (see {@link
 * dev.orion.beam.KafkaFrame}).
 *
 * <p>Offsets are committed when the runner has finished a checkpoint, so delivery is at least once. {@code
 * consumer_config} must hold {@code bootstrap.servers} and {@code group.id}. {@code enable.auto.commit} must not be
 * true: Kafka would commit records that have only been polled, and a crash would lose them.
 */
public final class BatchedKafkaRead extends PTransform<PBegin, PCollection<byte[]>> {
  public static final String URN = "orion:kafka_batches:v1";

  private static final long serialVersionUID = 1L;

  private final BatchedKafkaSource source;

  private BatchedKafkaRead(BatchedKafkaSource source) {
    this.source = source;
  }

  static BatchedKafkaRead of(Configuration configuration) {
    return new BatchedKafkaRead(configuration.source());
  }

  @Override
  public PCollection<byte[]> expand(PBegin input) {
    return input.apply("ReadFrames", Read.from(source));
  }

  /**
   * Configuration that Python sends. Beam fills it through the setters. Python names a field as its setter, in snake
   * case: {@code consumer_config}.
   */
  public static final class Configuration {
    private Map<String, String> consumerConfig = Map.of();
    private String topic = "";
    private long topicIndex = 0;
    private long topics = 1;
    private long maxRecords = 4096;
    private long maxBytes = 8L << 20;
    private long maxWaitMs = 10;

    public void setConsumerConfig(Map<String, String> consumerConfig) {
      this.consumerConfig = consumerConfig;
    }

    public void setTopic(String topic) {
      this.topic = topic;
    }

    public void setTopicIndex(Long topicIndex) {
      this.topicIndex = topicIndex;
    }

    public void setTopics(Long topics) {
      this.topics = topics;
    }

    public void setMaxRecords(Long maxRecords) {
      this.maxRecords = maxRecords;
    }

    public void setMaxBytes(Long maxBytes) {
      this.maxBytes = maxBytes;
    }

    public void setMaxWaitMs(Long maxWaitMs) {
      this.maxWaitMs = maxWaitMs;
    }

    BatchedKafkaSource source() {
      if (topic.isBlank()) {
        throw new IllegalArgumentException("topic is missing");
      }
      HashMap<String, Object> consumer = new HashMap<>(consumerConfig);
      required(consumer, ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG);
      required(consumer, ConsumerConfig.GROUP_ID_CONFIG);
      if (Boolean.parseBoolean((String) consumer.get(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG))) {
        throw new IllegalArgumentException(
            ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG + "=true loses records: it commits what has only been polled");
      }
      FrameLimits limits = new FrameLimits(maxRecords, maxBytes, maxWaitMs);
      TopicRead read = new TopicRead(consumer, topic, limits);
      TopicShare share = new TopicShare(Math.toIntExact(topicIndex), Math.toIntExact(topics));
      return new BatchedKafkaSource(read, share);
    }

    private static void required(Map<String, Object> consumer, String name) {
      if (consumer.get(name) == null) {
        throw new IllegalArgumentException("consumer_config has no " + name);
      }
    }
  }

  /** Makes the transform from its configuration. */
  static final class Builder implements ExternalTransformBuilder<Configuration, PBegin, PCollection<byte[]>> {
    @Override
    public PTransform<PBegin, PCollection<byte[]>> buildExternal(Configuration configuration) {
      return of(configuration);
    }
  }

  /** Registers the transform with the expansion service, which finds this class through {@code META-INF/services}. */
  public static final class Registrar implements ExternalTransformRegistrar {
    @Override
    public Map<String, ExternalTransformBuilder<?, ?, ?>> knownBuilderInstances() {
      return Map.of(URN, new Builder());
    }
  }
}
