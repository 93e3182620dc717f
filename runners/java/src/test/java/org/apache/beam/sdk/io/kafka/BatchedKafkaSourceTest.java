package org.apache.beam.sdk.io.kafka;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.io.UnboundedSource;
import org.apache.beam.sdk.io.UnboundedSource.UnboundedReader;
import org.apache.beam.sdk.options.PipelineOptionsFactory;
import org.apache.beam.sdk.transforms.windowing.BoundedWindow;
import org.apache.beam.sdk.util.CoderUtils;
import org.apache.beam.sdk.util.SerializableUtils;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;
import org.junit.jupiter.api.Timeout;

@Timeout(600)
class BatchedKafkaSourceTest {
  private static TestBroker broker;
  private static KafkaProducer<byte[], byte[]> producer;

  private String topic;

  @BeforeAll
  static void startBroker() throws Exception {
    broker = TestBroker.start();
    producer =
        new KafkaProducer<>(
            Map.of("bootstrap.servers", broker.bootstrapServers(), "max.request.size", 16 << 20),
            new ByteArraySerializer(),
            new ByteArraySerializer());
  }

  @AfterAll
  static void stopBroker() throws Exception {
    if (producer != null) {
      producer.close(java.time.Duration.ofSeconds(5));
    }
    if (broker != null) {
      broker.close();
    }
  }

  @BeforeEach
  void createTopic(TestInfo test) throws Exception {
    topic = test.getTestMethod().orElseThrow().getName();
    broker.createTopic(topic, 3);
  }

  @Test
  void everyShapeOfRecordArrivesAsItWasSent() throws Exception {
    List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
    sent.add(record(0, "key", "value"));
    sent.add(record(0, "key", ""));
    sent.add(record(0, "", "empty key"));
    sent.add(record(0, null, "no key"));
    sent.add(record(0, "tombstone", null));
    sent.add(record(0, null, null));
    sent.add(new ProducerRecord<>(topic, 0, 1L, bytes("big"), new byte[1 << 20]));
    sent.add(new ProducerRecord<>(topic, 0, 0L, bytes("not text"), new byte[] {0, '\n', '"', (byte) 0xff}));
    ProducerRecord<byte[], byte[]> manyHeaders = record(0, "headers", "v");
    for (int i = 0; i < 1000; i++) {
      manyHeaders.headers().add("same key", bytes("v" + i));
    }
    sent.add(manyHeaders);
    ProducerRecord<byte[], byte[]> oddHeaders = record(0, "headers", "v");
    oddHeaders.headers().add("", bytes("")).add("null", null).add("ключ", new byte[] {(byte) 0xff});
    sent.add(oddHeaders);
    send(sent);

    List<ConsumerRecord<byte[], byte[]>> read = readAll(source(4096, 8 << 20, 10), sent.size());

    assertEquals(sent.size(), read.size());
    for (int i = 0; i < sent.size(); i++) {
      ProducerRecord<byte[], byte[]> expected = sent.get(i);
      ConsumerRecord<byte[], byte[]> actual = read.get(i);
      assertEquals(topic, actual.topic());
      assertEquals(0, actual.partition());
      assertEquals(i, actual.offset());
      if (expected.timestamp() != null) {
        assertEquals(expected.timestamp(), actual.timestamp());
      }
      assertArrayEquals(expected.key(), actual.key());
      assertArrayEquals(expected.value(), actual.value());
      assertEquals(expected.headers(), actual.headers());
    }
  }

  @Test
  void aFrameHoldsAtMostMaxRecords() throws Exception {
    send(numbered(0, 100));

    List<Integer> sizes = new ArrayList<>();
    try (UnboundedReader<byte[]> reader = reader(source(30, 8 << 20, 60_000), null)) {
      for (byte[] frame : frames(reader, 90)) {
        sizes.add(FrameReader.records(frame).size());
      }
    }

    assertEquals(List.of(30, 30, 30), sizes);
  }

  @Test
  void aFrameIsClosedByTheRecordThatReachesMaxBytes() throws Exception {
    for (int size : new int[] {400, 400, 400, 5_000_000, 400}) {
      send(List.of(new ProducerRecord<>(topic, 0, null, new byte[size])));
    }

    List<Integer> sizes = new ArrayList<>();
    try (UnboundedReader<byte[]> reader = reader(source(4096, 1000, 60_000), null)) {
      for (byte[] frame : frames(reader, 5)) {
        sizes.add(FrameReader.records(frame).size());
      }
    }

    assertEquals(List.of(3, 1, 1), sizes);
  }

  @Test
  void aTrickleIsNotHeldBackUntilAFrameIsFull() throws Exception {
    AtomicBoolean stop = new AtomicBoolean();
    Thread trickle =
        new Thread(
            () -> {
              for (int i = 0; !stop.get(); i++) {
                producer.send(record(i % 3, "k", "v" + i));
                producer.flush();
                sleep(2);
              }
            });
    // A frame has room for more than the trickle ever sends. A reader that waited for a full frame would never end.
    try (UnboundedReader<byte[]> reader = reader(source(1 << 20, 1 << 30, 60_000), null)) {
      trickle.start();
      frames(reader, 100);
    } finally {
      stop.set(true);
      trickle.join();
    }
  }

  @Test
  void aCheckpointMarkResumesAtTheRecordAfterTheFrame() throws Exception {
    for (int partition = 0; partition < 3; partition++) {
      send(numbered(partition, 100));
    }
    UnboundedSource<byte[], KafkaCheckpointMark> source = split(source(75, 8 << 20, 60_000));
    Coder<KafkaCheckpointMark> coder = source.getCheckpointMarkCoder();
    List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
    KafkaCheckpointMark mark = null;

    while (read.size() < 300) { // a new reader, from an encoded mark, for every frame or two
      try (UnboundedReader<byte[]> reader = reader(SerializableUtils.clone(source), mark)) {
        frames(reader, Math.min(75, 300 - read.size())).forEach(frame -> read.addAll(FrameReader.records(frame)));
        byte[] encoded = CoderUtils.encodeToByteArray(coder, (KafkaCheckpointMark) reader.getCheckpointMark());
        mark = CoderUtils.decodeFromByteArray(coder, encoded);
      }
    }

    assertExactlyOnceInOrder(read, 300);
  }

  @Test
  void offsetsAreCommittedWhenACheckpointIsFinalized() throws Exception {
    send(numbered(1, 50));
    int read;
    try (UnboundedReader<byte[]> reader = reader(source(20, 8 << 20, 60_000), null)) {
      read = records(frames(reader, 20));
      KafkaCheckpointMark mark = (KafkaCheckpointMark) reader.getCheckpointMark();
      while (!reader.advance()) {} // records read after the mark must not be committed
      assertTrue(committed().isEmpty());
      mark.finalizeCheckpoint();
      while (committed().isEmpty()) {} // Kafka IO commits in another thread, a moment later
    }

    assertEquals(read, committed().get(new TopicPartition(topic, 1)).offset());

    List<ConsumerRecord<byte[], byte[]>> rest = readAll(source(30, 8 << 20, 10), 50 - read);
    assertEquals(read, rest.get(0).offset());
  }

  @Test
  void splitsShareThePartitions() throws Exception {
    for (int partition = 0; partition < 3; partition++) {
      send(numbered(partition, 10));
    }
    List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();

    for (UnboundedSource<byte[], KafkaCheckpointMark> split : source(10, 8 << 20, 60_000).split(3, PipelineOptionsFactory.create())) {
      try (UnboundedReader<byte[]> reader = reader(split, null)) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        frames(reader, 10).forEach(frame -> records.addAll(FrameReader.records(frame)));
        assertEquals(1, records.stream().map(ConsumerRecord::partition).distinct().count());
        read.addAll(records);
      }
    }

    assertExactlyOnceInOrder(read, 30);
  }

  @Test
  void aFrameGoesOutOnceTheConsumerHasGivenAllThatItHad() throws Exception {
    send(numbered(0, 10));
    try (UnboundedReader<byte[]> reader = reader(source(4096, 8 << 20, 60_000), null)) {
      long before = System.nanoTime();
      assertEquals(10, records(frames(reader, 10)));
      long waited = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - before);
      assertTrue(waited < 60_000, "it waited for a full frame, for as long as one may");
    }
  }

  @Test
  void aReaderWaitsForRecordsItselfAndGivesUpAfterAWhile() throws Exception {
    try (UnboundedReader<byte[]> reader = reader(source(10, 8 << 20, 10), null)) {
      reader.start();
      long before = System.nanoTime();
      assertFalse(reader.advance());
      long waited = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - before);
      assertTrue(waited >= 400, waited + " ms in one call of advance()");
    }
  }

  @Test
  void runsOfAPartitionAreWholeWhateverTheirSize() throws Exception {
    for (int partition = 0; partition < 3; partition++) {
      send(numbered(partition, 1000));
    }

    List<ConsumerRecord<byte[], byte[]>> read = readAll(source(640, 8 << 20, 10), 3000); // runs of ten records

    assertExactlyOnceInOrder(read, 3000);
  }

  @Test
  void aFrameTakesWhatSeveralPollsHaveBrought() throws Exception {
    for (int partition = 0; partition < 3; partition++) {
      send(numbered(partition, 1000));
    }
    List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
    List<Integer> sizes = new ArrayList<>();

    try (UnboundedReader<byte[]> reader = reader(source(4096, 8 << 20, 60_000), null)) { // polls bring 500
      for (byte[] frame : frames(reader, 3000)) {
        List<ConsumerRecord<byte[], byte[]>> records = FrameReader.records(frame);
        sizes.add(records.size());
        read.addAll(records);
      }
    }

    assertExactlyOnceInOrder(read, 3000);
    assertTrue(sizes.get(0) > 500, sizes.toString());
  }

  @Test
  void topicsAreSharedOutWhereTheirNumberAndThatOfSubtasksDivideOneAnother() {
    assertEquals(List.of("0+1", "1+1", "0+1", "1+1"), shares(4, 2));
    assertEquals(List.of("0+1", "1+1", "2+1", "3+1"), shares(4, 4));
    assertEquals(List.of("0+2", "2+2", "4+2", "6+2"), shares(4, 8));
    assertEquals(List.of("0+3", "0+3", "0+3", "0+3"), shares(4, 3)); // neither divides the other
    assertEquals(List.of("0+6"), shares(1, 6));
    assertThrows(IllegalArgumentException.class, () -> new TopicShare(4, 4));
  }

  @Test
  void aSubtaskThatDoesNotReadATopicHasNoRecordsOfItAndHoldsNobodyBack() throws Exception {
    send(numbered(0, 10));
    BatchedKafkaRead.Configuration configuration = configuration(10, 8 << 20, 10);
    configuration.setTopics(2L);
    configuration.setTopicIndex(1L);
    List<UnboundedSource<byte[], KafkaCheckpointMark>> splits =
        configuration.source().split(2, PipelineOptionsFactory.create());

    assertEquals(2, splits.size());
    UnboundedSource<byte[], KafkaCheckpointMark> none = SerializableUtils.clone(splits.get(0));
    try (UnboundedReader<byte[]> reader = reader(none, null)) {
      assertFalse(reader.start());
      assertFalse(reader.advance());
      assertEquals(BoundedWindow.TIMESTAMP_MAX_VALUE, reader.getWatermark());
      Coder<KafkaCheckpointMark> coder = none.getCheckpointMarkCoder();
      KafkaCheckpointMark mark = (KafkaCheckpointMark) reader.getCheckpointMark();
      KafkaCheckpointMark again = CoderUtils.clone(coder, mark);
      assertTrue(again.getPartitions().isEmpty());
      mark.finalizeCheckpoint();
      assertFalse(reader(none, again).start());
    }
    try (UnboundedReader<byte[]> reader = reader(splits.get(1), null)) {
      assertEquals(10, records(frames(reader, 10)));
    }
  }

  private static List<String> shares(int topics, int subtasks) {
    return IntStream.range(0, topics)
        .mapToObj(i -> new TopicShare(i, topics))
        .map(share -> share.firstOf(subtasks) + "+" + share.count(subtasks))
        .collect(Collectors.toList());
  }

  @Test
  void aConfigurationThatLosesRecordsIsRefused() {
    BatchedKafkaRead.Configuration configuration = configuration(10, 10, 10);
    configuration.setConsumerConfig(
        Map.of("bootstrap.servers", "127.0.0.1:1", "group.id", "g", "enable.auto.commit", "true"));

    Exception e = assertThrows(IllegalArgumentException.class, configuration::source);

    assertTrue(e.getMessage().contains("enable.auto.commit"), e.getMessage());
    assertThrows(IllegalArgumentException.class, () -> new FrameLimits(0, 1, 1));
    assertThrows(IllegalArgumentException.class, () -> new FrameLimits(1, 1L << 31, 1));
  }

  @Test
  void readersHoldOneLeaseAJobAndTopicAndGiveItBackWhenTheLastOneCloses() throws Exception {
    BatchedKafkaRead.Configuration configuration = configuration(10, 8 << 20, 10);
    configuration.setLease("orion/job");
    BatchedKafkaSource source = SerializableUtils.clone(configuration.source());
    BatchedKafkaRead.Configuration other = configuration(10, 8 << 20, 10);
    other.setLease("orion/other");

    try (UnboundedReader<byte[]> first = reader(split(source), null)) {
      assertEquals(List.of(), holders());
      try (UnboundedReader<byte[]> second = reader(split(source), null);
          UnboundedReader<byte[]> of = reader(split(other.source()), null)) {
        first.start();
        second.start();
        of.start();
        awaitHolders("orion/job/" + topic, "orion/other/" + topic);
      }
      awaitHolders("orion/job/" + topic);
    }
    // A closing reader tells the broker, so the next job need not wait for the session timeout.
    assertEquals(List.of(), holders());
  }

  private void awaitHolders(String... expected) throws Exception {
    long giveUpAt = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
    while (!holders().equals(List.of(expected))) {
      assertTrue(System.nanoTime() < giveUpAt, () -> "expected " + List.of(expected));
      Thread.sleep(50);
    }
  }

  private List<String> holders() throws Exception {
    String group = "group-" + topic + ".lease";
    try (Admin admin = broker.admin()) {
      return admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().stream()
          .map(MemberDescription::clientId)
          .sorted()
          .collect(Collectors.toList());
    } catch (ExecutionException e) {
      if (e.getCause() instanceof GroupIdNotFoundException) {
        return List.of();
      }
      throw e;
    }
  }

  private BatchedKafkaRead.Configuration configuration(long maxRecords, long maxBytes, long maxWaitMs) {
    BatchedKafkaRead.Configuration configuration = new BatchedKafkaRead.Configuration();
    configuration.setConsumerConfig(
        Map.of(
            "bootstrap.servers", broker.bootstrapServers(), "group.id", "group-" + topic,
            "auto.offset.reset", "earliest", "enable.auto.commit", "false"));
    configuration.setTopic(topic);
    configuration.setMaxRecords(maxRecords);
    configuration.setMaxBytes(maxBytes);
    configuration.setMaxWaitMs(maxWaitMs);
    return configuration;
  }

  private BatchedKafkaSource source(long maxRecords, long maxBytes, long maxWaitMs) {
    return configuration(maxRecords, maxBytes, maxWaitMs).source();
  }

  private static UnboundedSource<byte[], KafkaCheckpointMark> split(BatchedKafkaSource source) throws Exception {
    return source.split(1, PipelineOptionsFactory.create()).get(0);
  }

  private static UnboundedReader<byte[]> reader(
      UnboundedSource<byte[], KafkaCheckpointMark> source, KafkaCheckpointMark mark) throws Exception {
    return source.createReader(PipelineOptionsFactory.create(), mark);
  }

  /** Starts the reader and returns frames until they hold {@code records} records. */
  private static List<byte[]> frames(UnboundedReader<byte[]> reader, int records) throws Exception {
    List<byte[]> frames = new ArrayList<>();
    int read = 0;
    for (boolean available = reader.start(); read < records; available = read < records && reader.advance()) {
      if (available) {
        frames.add(reader.getCurrent());
        read += FrameReader.records(reader.getCurrent()).size();
      }
    }
    return frames;
  }

  private static int records(List<byte[]> frames) {
    return frames.stream().mapToInt(frame -> FrameReader.records(frame).size()).sum();
  }

  private static List<ConsumerRecord<byte[], byte[]>> readAll(BatchedKafkaSource source, int records) throws Exception {
    List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
    try (UnboundedReader<byte[]> reader = reader(source, null)) {
      frames(reader, records).forEach(frame -> read.addAll(FrameReader.records(frame)));
    }
    return read;
  }

  private Map<TopicPartition, OffsetAndMetadata> committed() throws Exception {
    try (Admin admin = broker.admin()) {
      return admin.listConsumerGroupOffsets("group-" + topic).partitionsToOffsetAndMetadata().get();
    }
  }

  private List<ProducerRecord<byte[], byte[]>> numbered(int partition, int count) {
    List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      records.add(record(partition, "k", partition + "/" + i));
    }
    return records;
  }

  private static void assertExactlyOnceInOrder(List<ConsumerRecord<byte[], byte[]>> read, int count) {
    assertEquals(count, read.size());
    long[] next = new long[3];
    for (ConsumerRecord<byte[], byte[]> record : read) {
      assertEquals(next[record.partition()]++, record.offset());
      assertEquals(record.partition() + "/" + record.offset(), new String(record.value()));
    }
  }

  private static void send(List<ProducerRecord<byte[], byte[]>> records) throws Exception {
    List<Future<RecordMetadata>> sent = records.stream().map(producer::send).toList();
    producer.flush();
    for (Future<RecordMetadata> record : sent) {
      record.get();
    }
  }

  private ProducerRecord<byte[], byte[]> record(int partition, String key, String value) {
    return new ProducerRecord<>(topic, partition, bytes(key), bytes(value));
  }

  private static byte[] bytes(String text) {
    return text == null ? null : text.getBytes(java.nio.charset.StandardCharsets.UTF_8);
  }

  private static void sleep(long ms) {
    try {
      Thread.sleep(ms);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
