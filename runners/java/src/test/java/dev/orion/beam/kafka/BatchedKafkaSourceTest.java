package dev.orion.beam.kafka;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.beam.sdk.options.PipelineOptions;
import org.apache.beam.sdk.transforms.windowing.BoundedWindow;
import org.apache.beam.sdk.util.CoderUtils;
import org.apache.flink.runtime.execution.SuppressRestartsException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.joda.time.Instant;
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
    try (Subtask subtask = Subtask.first(source(30, 8 << 20, 60_000))) {
      for (byte[] frame : subtask.frames(90)) {
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
    try (Subtask subtask = Subtask.first(source(4096, 1000, 60_000))) {
      for (byte[] frame : subtask.frames(5)) {
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
    try (Subtask subtask = Subtask.first(source(1 << 20, 1 << 30, 60_000))) {
      trickle.start();
      subtask.frames(100);
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
    List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
    List<Subtask.State> states = null;

    while (read.size() < 300) { // a new reader, from a checkpoint, for every frame or two
      try (Subtask subtask =
          states == null
              ? Subtask.first(source(75, 8 << 20, 60_000))
              : Subtask.restored(states, Subtask.options(""))) {
        read.addAll(subtask.records(Math.min(75, 300 - read.size())));
        states = subtask.snapshot();
      }
    }

    assertExactlyOnceInOrder(read, 300);
  }

  @Test
  void offsetsAreCommittedWhenACheckpointIsFinalized() throws Exception {
    send(numbered(1, 50));
    int read;
    try (Subtask subtask = Subtask.first(source(20, 8 << 20, 60_000))) {
      read = records(subtask.frames(20));
      List<KafkaOffsets> marks = subtask.marks();
      while (subtask.poll() == null) {} // records read after the mark must not be committed
      assertTrue(committed().isEmpty());
      marks.forEach(KafkaOffsets::finalizeCheckpoint);
      while (committed().isEmpty()) {} // the polling thread commits, a moment later
    }

    assertEquals(read, committed().get(new TopicPartition(topic, 1)).offset());

    List<ConsumerRecord<byte[], byte[]>> rest = readAll(source(30, 8 << 20, 10), 50 - read);
    assertEquals(read, rest.get(0).offset());
  }

  @Test
  void aReaderThatIsClosedCommitsTheLastCheckpoint() throws Exception {
    send(numbered(1, 50));
    int read;
    try (Subtask subtask = Subtask.first(source(20, 8 << 20, 60_000))) {
      read = records(subtask.frames(20));
      subtask.marks().forEach(KafkaOffsets::finalizeCheckpoint);
    }

    assertEquals(read, committed().get(new TopicPartition(topic, 1)).offset());
  }

  @Test
  void subtasksShareThePartitions() throws Exception {
    for (int partition = 0; partition < 3; partition++) {
      send(numbered(partition, 10));
    }
    List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();

    for (int i = 0; i < 3; i++) {
      try (Subtask subtask = Subtask.of(source(10, 8 << 20, 60_000), i, 3, Subtask.options(""))) {
        List<ConsumerRecord<byte[], byte[]>> records = subtask.records(10);
        assertEquals(1, records.stream().map(ConsumerRecord::partition).distinct().count());
        read.addAll(records);
      }
    }

    assertExactlyOnceInOrder(read, 30);
  }

  @Test
  void partitionsThatComeLaterAreReadFromTheirBeginning() throws Exception {
    send(numbered(0, 10));
    List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
    try (Subtask subtask = Subtask.first(curious(1000))) {
      read.addAll(subtask.records(10));
      addPartitions(6);
      for (int partition = 3; partition < 6; partition++) {
        send(numbered(partition, 10));
      }
      send(numbered(0, 10, 20));
      read.addAll(subtask.records(40));

      assertExactlyOnceInOrder(read, 50);
      assertEquals(Map.of(0, 20L, 1, 0L, 2, 0L, 3, 10L, 4, 10L, 5, 10L), offsets(subtask));
    }
  }

  @Test
  void aCheckpointFromBeforePartitionsCameLosesAndRepeatsNothing() throws Exception {
    send(numbered(0, 10));
    List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
    List<Subtask.State> states;
    try (Subtask subtask = Subtask.first(curious(1000))) {
      read.addAll(subtask.records(10));
      awaitOffsets(subtask, 3);
      states = subtask.snapshot();
    }
    addPartitions(6);
    for (int partition = 3; partition < 6; partition++) {
      send(numbered(partition, 10));
    }
    commit(4, 3); // another job of this group has read a part of partition 4
    try (Subtask subtask = Subtask.restored(states, Subtask.options(""))) {
      read.addAll(subtask.records(27));
      assertEquals(Map.of(0, 10L, 1, 0L, 2, 0L, 3, 10L, 4, 10L, 5, 10L), offsets(subtask));
    }

    assertEquals(3, read.stream().filter(record -> record.partition() == 4).findFirst().orElseThrow().offset());
    assertEquals(37, read.stream().map(record -> record.partition() + "/" + record.offset()).distinct().count());
  }

  @Test
  void aSubtaskWithoutAPartitionGetsOneThatComesLater() throws Exception {
    try (Subtask subtask = Subtask.of(curious(1000), 3, 4, Subtask.options(""))) {
      assertNull(subtask.poll());
      assertTrue(subtask.reader(0).getWatermark().isAfter(Instant.now().minus(60_000)), "it holds nobody back");
      assertEquals(Map.of(), offsets(subtask));
      addPartitions(6);
      send(numbered(3, 10));

      assertEquals(10, subtask.records(10).size());
      assertEquals(Map.of(3, 10L), offsets(subtask));
    }
  }

  @Test
  void aSavepointGoesOnWithAnotherNumberOfSubtasks() throws Exception {
    addPartitions(12);
    List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
    List<List<Subtask.State>> states = new ArrayList<>();
    for (int partition = 0; partition < 12; partition++) {
      send(numbered(partition, 10));
    }
    for (int i = 0; i < 2; i++) {
      try (Subtask subtask = Subtask.of(curious(1000), i, 2, Subtask.options(""))) {
        read.addAll(subtask.records(60));
        states.add(subtask.snapshot());
      }
    }
    for (int subtasks : new int[] {4, 3, 1}) {
      int sent = read.size() / 12;
      for (int partition = 0; partition < 12; partition++) {
        send(numbered(partition, sent, sent + 10));
      }
      List<List<Subtask.State>> after = new ArrayList<>();
      for (List<Subtask.State> share : Subtask.shared(states, subtasks)) {
        try (Subtask subtask = Subtask.restored(share, Subtask.options(""))) {
          int partitions = offsets(subtask).size();
          assertTrue(Math.abs(partitions - 12 / subtasks) <= 1, partitions + " partitions of 12/" + subtasks);
          read.addAll(subtask.records(10 * partitions));
          after.add(subtask.snapshot());
        }
      }
      states = after;
    }

    assertExactlyOnceInOrder(read, 12 * 40);
  }

  @Test
  void aSavepointOfAnotherSubmissionIsReadWithTheSettingsOfThisOne() throws Exception {
    send(numbered(0, 10));
    BatchedKafkaRead.Configuration moved = configuration(10, 8 << 20, 10);
    moved.setConsumerConfig(Map.of("bootstrap.servers", "127.0.0.1:1", "group.id", "moved"));
    List<Subtask.State> states;
    try (Subtask subtask = Subtask.of(moved.source(), 0, 1, Subtask.options(""))) {
      states = subtask.snapshot();
    }
    String lease = lease("present", "20260101T000000Z");
    Subtask.of(source(10, 8 << 20, 10), 0, 1, Subtask.options(lease)).close();
    try (Subtask subtask = Subtask.restored(states, Subtask.options(lease))) {
      assertEquals(10, subtask.records(10).size());
    }
  }

  @Test
  void aFrameGoesOutOnceTheConsumerHasGivenAllThatItHad() throws Exception {
    send(numbered(0, 10));
    try (Subtask subtask = Subtask.first(source(4096, 8 << 20, 60_000))) {
      long before = System.nanoTime();
      assertEquals(10, records(subtask.frames(10)));
      long waited = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - before);
      assertTrue(waited < 60_000, "it waited for a full frame, for as long as one may");
    }
  }

  @Test
  void aReaderWaitsForRecordsItselfAndGivesUpAfterAWhile() throws Exception {
    try (Subtask subtask = Subtask.first(source(10, 8 << 20, 10))) {
      long before = System.nanoTime();
      assertNull(subtask.poll());
      long waited = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - before);
      assertTrue(waited >= 400, waited + " ms in one round");
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

    try (Subtask subtask = Subtask.first(source(4096, 8 << 20, 60_000))) { // polls bring 500
      for (byte[] frame : subtask.frames(3000)) {
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
    try (Subtask subtask = Subtask.of(configuration.source(), 0, 2, Subtask.options(""))) {
      assertNull(subtask.poll());
      assertEquals(BoundedWindow.TIMESTAMP_MAX_VALUE, subtask.reader(0).getWatermark());
      subtask.marks().forEach(KafkaOffsets::finalizeCheckpoint);
      try (Subtask again = Subtask.restored(subtask.snapshot(), Subtask.options(""))) {
        assertNull(again.poll());
      }
    }
    try (Subtask subtask = Subtask.of(configuration.source(), 1, 2, Subtask.options(""))) {
      assertEquals(10, records(subtask.frames(10)));
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
    String lease = lease("job", "20260101T000000Z");
    String other = lease("other", "20260101T000001Z");
    try (Subtask first = Subtask.of(source(10, 8 << 20, 10), 0, 2, Subtask.options(lease))) {
      try (Subtask second = Subtask.of(source(10, 8 << 20, 10), 1, 2, Subtask.options(lease));
          Subtask of = Subtask.of(source(10, 8 << 20, 10), 0, 1, Subtask.options(other))) {
        awaitHolders(lease + "/" + topic, other + "/" + topic);
      }
      awaitHolders(lease + "/" + topic);
    }
    // A closing reader tells the broker, so the next job need not wait for the session timeout.
    assertEquals(List.of(), holders());
  }

  @Test
  void ofTwoJobsThatStartAtOnceTheEarlierOneReadsAndTheOtherEndsForGoodWithoutARecord() throws Exception {
    send(numbered(0, 10));
    try (Subtask later = Subtask.of(source(10, 8 << 20, 10), 0, 1, Subtask.options(lease("b", "20260101T000000Z")));
        Subtask earlier = Subtask.of(source(10, 8 << 20, 10), 0, 1, Subtask.options(lease("a", "20260101T000000Z")))) {
      // Which one joins first is left to chance. If it is the later one, alone, then it has the lease, and keeps it.
      Subtask reading = null;
      SuppressRestartsException refusal = null;
      int read = 0;
      while (refusal == null || read < 10) {
        for (Subtask subtask : List.of(later, earlier)) {
          try {
            byte[] frame = subtask.poll();
            if (frame != null) {
              assertTrue(reading == null || reading == subtask, "both read");
              reading = subtask;
              read += FrameReader.records(frame).size();
            }
          } catch (SuppressRestartsException e) {
            assertTrue(reading != subtask, "the one that reads is refused");
            refusal = e;
          }
        }
      }
      String message = refusal.getCause().getMessage();
      assertTrue(
          message.matches(
              "group group-" + topic + ": a job that was started on here at 2026-01-01T00:00:00Z holds the lease of " + topic
                  + "; .*"),
          message);
    }
  }

  @Test
  void aHolderKeepsItsLeaseAndOthersMayOnlyReadIfTheyAreMeantTo() throws Exception {
    send(numbered(0, 10));
    PipelineOptions holding = Subtask.options(lease("holder", "20260102T000000Z"));
    try (Subtask holder = Subtask.of(source(10, 8 << 20, 10), 0, 1, holding)) {
      holder.records(10);
      // Its clock is behind: it seems to have started earlier.
      try (Subtask newcomer =
          Subtask.of(source(10, 8 << 20, 10), 0, 1, Subtask.options(lease("newcomer", "20260101T000000Z")))) {
        assertThrows(SuppressRestartsException.class, () -> newcomer.records(1));
      }
      PipelineOptions insisting = Subtask.options(lease("second", "20260101T000000Z"));
      insisting.as(LeaseOptions.class).setOrionSecondJob(true);
      try (Subtask second = Subtask.of(source(10, 8 << 20, 10), 0, 1, insisting)) {
        assertEquals(10, second.records(10).size());
        send(numbered(0, 10, 20));
        assertEquals(10, holder.records(10).size());
        assertEquals(10, second.records(10).size());
      }
    }
  }

  @Test
  void aJobThatComesBackAfterTheSessionTimeoutReadsNothingBeforeItsLeaseIsDecided() throws Exception {
    send(numbered(0, 20));
    PipelineOptions options = Subtask.options(lease("job", "20260101T000000Z"));
    List<Subtask.State> states = new ArrayList<>();
    try (Subtask subtask = Subtask.of(source(10, 8 << 20, 10), 0, 1, options)) {
      subtask.records(10);
      for (Subtask.State state : subtask.snapshot()) {
        KafkaOffsets mark = CoderUtils.decodeFromByteArray(KafkaOffsets.CODER, state.mark());
        KafkaOffsets old = new KafkaOffsets(mark.lease(), mark.takenMs() - 100_000, mark.next(), null);
        states.add(new Subtask.State(state.split(), CoderUtils.encodeToByteArray(KafkaOffsets.CODER, old)));
      }
    }
    try (Subtask other =
        Subtask.of(source(10, 8 << 20, 10), 0, 1, Subtask.options(lease("other", "20260102T000000Z")))) {
      other.records(10);
      try (Subtask again = Subtask.restored(states, options)) {
        assertThrows(SuppressRestartsException.class, () -> again.records(1));
      }
    }
  }

  @Test
  void aJobThatFlinkRestartsReadsOnBeforeItsLeaseIsDecided() throws Exception {
    send(numbered(0, 20));
    PipelineOptions options = Subtask.options(lease("job", "20260101T000000Z"));
    List<Subtask.State> states;
    try (Subtask subtask = Subtask.of(source(10, 8 << 20, 10), 0, 1, options)) {
      subtask.records(10);
      states = subtask.snapshot();
    }
    // Another job has taken the lease in between. The restarted one finds out when its member has joined.
    try (Subtask other =
        Subtask.of(source(10, 8 << 20, 10), 0, 1, Subtask.options(lease("other", "20260102T000000Z")))) {
      other.records(10);
      try (Subtask again = Subtask.restored(states, options)) {
        assertThrows(SuppressRestartsException.class, () -> again.records(1000));
      }
    }
    try (Subtask again = Subtask.restored(states, options)) {
      assertEquals(10, again.records(10).size());
    }
  }

  private static String lease(String job, String started) {
    return "orion/" + job + "/" + started + "/here";
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

  /** Returns a source that looks for new partitions every half second. */
  private BatchedKafkaSource curious(long maxRecords) {
    BatchedKafkaRead.Configuration configuration = configuration(maxRecords, 8 << 20, 10);
    Map<String, String> consumer =
        new TreeMap<>(
            Map.of(
                "bootstrap.servers", broker.bootstrapServers(), "group.id", "group-" + topic,
                "auto.offset.reset", "earliest", "metadata.max.age.ms", "500"));
    configuration.setConsumerConfig(consumer);
    return configuration.source();
  }

  private void addPartitions(int total) throws Exception {
    try (Admin admin = broker.admin()) {
      admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(total))).all().get();
    }
    broker.awaitLeaders(topic, total);
  }

  private void commit(int partition, long offset) throws Exception {
    try (Admin admin = broker.admin()) {
      admin
          .alterConsumerGroupOffsets(
              "group-" + topic, Map.of(new TopicPartition(topic, partition), new OffsetAndMetadata(offset)))
          .all()
          .get();
    }
  }

  /** Returns the offsets that a checkpoint would hold now. */
  private static Map<Integer, Long> offsets(Subtask subtask) {
    Map<Integer, Long> offsets = new TreeMap<>();
    subtask.marks().forEach(mark -> offsets.putAll(mark.next()));
    return offsets;
  }

  private static void awaitOffsets(Subtask subtask, int partitions) throws Exception {
    while (offsets(subtask).size() < partitions) {
      assertNull(subtask.poll());
    }
  }

  private static int records(List<byte[]> frames) {
    return frames.stream().mapToInt(frame -> FrameReader.records(frame).size()).sum();
  }

  private static List<ConsumerRecord<byte[], byte[]>> readAll(BatchedKafkaSource source, int records) throws Exception {
    try (Subtask subtask = Subtask.first(source)) {
      return subtask.records(records);
    }
  }

  private Map<TopicPartition, OffsetAndMetadata> committed() throws Exception {
    try (Admin admin = broker.admin()) {
      return admin.listConsumerGroupOffsets("group-" + topic).partitionsToOffsetAndMetadata().get();
    }
  }

  private List<ProducerRecord<byte[], byte[]>> numbered(int partition, int count) {
    return numbered(partition, 0, count);
  }

  private List<ProducerRecord<byte[], byte[]>> numbered(int partition, int from, int to) {
    List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
    for (int i = from; i < to; i++) {
      records.add(record(partition, "k", partition + "/" + i));
    }
    return records;
  }

  private static void assertExactlyOnceInOrder(List<ConsumerRecord<byte[], byte[]>> read, int count) {
    assertEquals(count, read.size());
    long[] next = new long[12];
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
