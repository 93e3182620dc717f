package org.apache.beam.sdk.io.kafka;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.beam.sdk.coders.ByteArrayCoder;
import org.apache.beam.sdk.expansion.ExternalTransformRegistrar;
import org.apache.beam.sdk.io.Read;
import org.apache.beam.sdk.transforms.ExternalTransformBuilder;
import org.apache.beam.sdk.transforms.PTransform;
import org.apache.beam.sdk.values.PBegin;
import org.apache.beam.sdk.values.PCollection;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

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
    private String lease = "";
    private String topic = "";
    private long topicIndex = 0;
    private long topics = 1;
    private long maxRecords = 4096;
    private long maxBytes = 8L << 20;
    private long maxWaitMs = 10;

    public void setConsumerConfig(Map<String, String> consumerConfig) {
      this.consumerConfig = consumerConfig;
    }

    /** Sets the prefix of the client ids of the job's leases, see {@link JobLease}. */
    public void setLease(String lease) {
      this.lease = lease;
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
      Map<String, Object> consumer = new HashMap<>(consumerConfig);
      String servers = (String) required(consumer, ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG);
      required(consumer, ConsumerConfig.GROUP_ID_CONFIG);
      if (Boolean.parseBoolean((String) consumer.get(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG))) {
        throw new IllegalArgumentException(
            ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG + "=true loses records: it commits what has only been polled");
      }
      FrameLimits limits = new FrameLimits(maxRecords, maxBytes, maxWaitMs);
      KafkaIO.Read<byte[], byte[]> read =
          KafkaIO.<byte[], byte[]>read()
              .withBootstrapServers(servers)
              .withTopics(List.of(topic))
              .withConsumerConfigUpdates(consumer)
              .withConsumerFactoryFn(config -> new RunConsumer(config, limits))
              .withKeyDeserializer(ByteArrayDeserializer.class)
              .withValueDeserializer(ByteArrayDeserializer.class)
              .commitOffsetsInFinalize()
              .toBuilder()
              .setKeyCoder(ByteArrayCoder.of())
              .setValueCoder(ByteArrayCoder.of())
              .build();
      TopicShare share = new TopicShare(Math.toIntExact(topicIndex), Math.toIntExact(topics));
      JobLease held = new JobLease(new HashMap<>(consumer), lease + "/" + topic, topic);
      return new BatchedKafkaSource(read.makeSource(), topic, share, limits, held);
    }

    private static Object required(Map<String, Object> consumer, String name) {
      Object value = consumer.get(name);
      if (value == null) {
        throw new IllegalArgumentException("consumer_config has no " + name);
      }
      return value;
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
