package dev.orion.beam.kafka;

import dev.orion.beam.KafkaFrame;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ApiException;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.WakeupException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Reader of the splits of a topic that a Flink subtask has: one consumer, which packs records into frames.
 *
 * <p>A thread of its own polls, and packs what has arrived into the next frame until the reading thread takes it. If
 * the reading thread is busy, frames become larger, up to their limits; then the polling thread waits.
 *
 * <p>The consumer asks for the partitions of its topic again and again. A partition that has come since is read from
 * the group's committed offset, or from its beginning.
 */
final class TopicReader {
  private static final Logger LOG = LoggerFactory.getLogger(TopicReader.class);
  private static final long LONGEST_WAIT_NS = TimeUnit.MILLISECONDS.toNanos(400);
  private static final Duration POLL = Duration.ofSeconds(1);
  private static final Duration CLOSING = Duration.ofSeconds(5);
  private static final long PAUSE_MS = 1_000;
  private static final long TELL_EVERY_NS = TimeUnit.MINUTES.toNanos(1);
  private static final long LEASE_PAUSE_MS = 20;

  /** Reader that the splits of the task which this thread opens share. It is done with once it is started. */
  private static final ThreadLocal<TopicReader> OPENING = new ThreadLocal<>();

  private final TopicRead read;
  private final String submission;
  private final JobLease lease;
  private final KafkaFrame frame;
  private final List<KafkaSplit> splits = new ArrayList<>();
  private final Thread poller;
  private boolean isRestored;
  private boolean isRestart; // Flink has started this submission before
  private boolean hasRead; // this submission has, perhaps just before a restart

  // What follows is guarded by this.
  private final Map<Integer, Long> next = new TreeMap<>(); // of each partition, behind the frames that were taken
  private final Map<Integer, Long> packed = new HashMap<>(); // likewise, behind the frame that is being packed
  private Map<TopicPartition, OffsetAndMetadata> toCommit = new HashMap<>();
  private boolean isStarted;
  private boolean isClosed;
  private boolean isDry; // all records that have been polled are packed, and the consumer has no more at hand
  private long firstPackedNs;
  private Exception failure;
  private KafkaConsumer<byte[], byte[]> consumer;

  private TopicReader(TopicRead read, String submission, boolean isSecond) {
    this.read = read;
    this.submission = submission;
    this.lease = JobLease.take(read, submission, isSecond);
    this.frame = new KafkaFrame(read.topic());
    this.poller = new Thread(this::run, "orion-read " + read.topic());
    poller.setDaemon(true);
  }

  /** Returns the reader for the splits that this thread opens until the first of them is started. */
  static TopicReader ofThisTask(TopicRead read, String submission, boolean isSecond) {
    TopicReader reader = OPENING.get();
    if (reader == null || !reader.isOpening(read.topic(), submission)) {
      reader = new TopicReader(read, submission, isSecond);
      OPENING.set(reader);
    }
    return reader;
  }

  private synchronized boolean isOpening(String topic, String submission) {
    return !isStarted && !isClosed && read.topic().equals(topic) && this.submission.equals(submission);
  }

  /** Adds a split; {@code mark} says where it goes on, or is null for a split that was never read. */
  synchronized void add(KafkaSplit split, KafkaOffsets mark) {
    splits.add(split);
    if (mark != null) {
      next.putAll(mark.next());
      isRestored |= !mark.next().isEmpty();
      isRestart |= mark.lease().equals(submission);
      // A mark that is older says little: Kafka may have given the lease to another submission in between.
      boolean isRecent = System.currentTimeMillis() - mark.takenMs() < read.sessionTimeoutMs();
      hasRead |= isRecent && mark.lease().equals(submission);
    }
  }

  /** Starts to read; returns false if it was started before. */
  synchronized boolean start() {
    if (isStarted) {
      return false;
    }
    isStarted = true;
    poller.start();
    return true;
  }

  /**
   * Waits up to 400 ms for a frame, and takes it.
   *
   * <p>Flink sleeps for 50 ms after each call that has found nothing. On a quiet topic most records would thus wait for
   * Flink to wake up. The caller holds Flink's checkpoint lock meanwhile.
   *
   * <p>A frame is ready when it is full, when everything that has arrived is packed, or after a wait of {@code
   * maxWaitMs} for more.
   *
   * @return a frame; null if there is none, or if the lease is not held
   */
  synchronized byte[] take() throws IOException {
    lease.check();
    long calledAt = System.nanoTime();
    long giveUpAt = calledAt + LONGEST_WAIT_NS;
    while (true) {
      if (failure != null) {
        throw new IOException("cannot read " + read.topic(), failure);
      }
      long now = System.nanoTime();
      long left = giveUpAt - now;
      if (frame.records() > 0) {
        long since = Math.min(now - firstPackedNs, now - calledAt);
        long closesIn = TimeUnit.MILLISECONDS.toNanos(read.limits().maxWaitMs()) - since;
        if (isDry || isFull() || closesIn <= 0) {
          break;
        }
        left = Math.min(left, closesIn);
      }
      if (left <= 0 || !isWaitedFor(TimeUnit.NANOSECONDS.toMillis(left) + 1)) {
        return null;
      }
    }
    if (!lease.isHeld(hasRead)) {
      return null;
    }
    next.putAll(packed);
    packed.clear();
    hasRead = true;
    byte[] taken = frame.write();
    notifyAll();
    return taken;
  }

  /** Returns the mark of a split: where it goes on behind the frames that were taken. */
  synchronized KafkaOffsets mark(KafkaSplit split) {
    Map<Integer, Long> own = new TreeMap<>(next);
    own.keySet().removeIf(partition -> !split.owns(partition));
    return new KafkaOffsets(submission, hasRead ? System.currentTimeMillis() : 0, own, this);
  }

  /** Commits offsets a moment later, unless the lease is lost by then. */
  synchronized void commit(Map<Integer, Long> offsets) {
    offsets.forEach((partition, offset) -> toCommit.put(partition(partition), new OffsetAndMetadata(offset)));
  }

  /** Closes a split. With the last one, commits what is to be committed, and gives the lease back. */
  void close(KafkaSplit split) {
    synchronized (this) {
      splits.remove(split);
      if (!splits.isEmpty()) {
        return;
      }
      isClosed = true;
      notifyAll();
      if (consumer != null) {
        consumer.wakeup();
      }
    }
    try {
      poller.join(2 * CLOSING.toMillis());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    lease.giveBack();
  }

  /** Waits for a change; returns false if this thread is interrupted. */
  private synchronized boolean isWaitedFor(long ms) {
    try {
      wait(ms);
      return true;
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      return false;
    }
  }

  private synchronized boolean isOpen() {
    return !isClosed;
  }

  private void run() {
    try (KafkaConsumer<byte[], byte[]> made = new KafkaConsumer<>(read.settings())) {
      synchronized (this) {
        consumer = made;
      }
      try {
        while (isOpen() && !lease.isHeld(hasRead)) {
          isWaitedFor(LEASE_PAUSE_MS);
        }
        new Poller(made).run();
      } catch (WakeupException e) {
        // close() has interrupted the poll.
      }
      commitNow(made);
      made.close(CLOSING);
    } catch (Exception e) {
      synchronized (this) {
        failure = e;
        notifyAll();
      }
    }
  }

  private void commitNow(KafkaConsumer<byte[], byte[]> consumer) {
    Map<TopicPartition, OffsetAndMetadata> offsets = due();
    if (offsets.isEmpty()) {
      return;
    }
    try {
      try {
        consumer.commitSync(offsets, CLOSING);
      } catch (WakeupException e) {
        consumer.commitSync(offsets, CLOSING); // close() meant a poll, which was over already
      }
    } catch (RetriableException | AuthorizationException e) {
      LOG.warn("the last offsets of {} are not committed: {}", read.topic(), e.getMessage());
    }
  }

  /** Returns what is to be committed now, and forgets it: nothing while the lease is not held. */
  private synchronized Map<TopicPartition, OffsetAndMetadata> due() {
    if (toCommit.isEmpty() || !lease.isHeld(hasRead)) {
      return Map.of();
    }
    Map<TopicPartition, OffsetAndMetadata> due = toCommit;
    toCommit = new HashMap<>();
    return due;
  }

  private boolean isFull() {
    return read.limits().areReached(frame.records(), frame.bytes());
  }

  private TopicPartition partition(int number) {
    return new TopicPartition(read.topic(), number);
  }

  /** The polling thread's part. */
  private final class Poller {
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final List<KafkaSplit> own;
    private final Set<TopicPartition> added = new HashSet<>();
    private final Set<TopicPartition> withoutPosition = new HashSet<>();
    private int known;
    private boolean hasBegun; // it was allowed to read all of its partitions
    private Long toldNs;

    Poller(KafkaConsumer<byte[], byte[]> consumer) {
      this.consumer = consumer;
      synchronized (TopicReader.this) {
        this.own = List.copyOf(splits);
      }
    }

    void run() {
      boolean hasMore = false;
      while (isOpen()) {
        try {
          assign();
          if (consumer.assignment().isEmpty()) {
            isWaitedFor(read.lookEveryMs());
            continue;
          }
          ConsumerRecords<byte[], byte[]> polled = consumer.poll(hasMore ? Duration.ZERO : POLL);
          hasMore = polled.count() >= read.maxPollRecords();
          pack(polled, hasMore);
          note();
          hasBegun |= withoutPosition.isEmpty();
          commit();
        } catch (NoOffsetForPartitionException e) {
          if (!added.containsAll(e.partitions())) {
            throw e; // auto.offset.reset is none, and the group has never read this topic
          }
          consumer.seekToBeginning(e.partitions());
        } catch (RetriableException e) {
          rest(e);
        } catch (AuthorizationException e) {
          if (!hasBegun && !isRestart) {
            throw e; // a job that starts, or an upgrade of one, fails without its rights
          }
          rest(e); // the right was taken away in mid-run: the other topics are read meanwhile
        }
      }
    }

    /** Logs an error that passes, at most once a minute, and waits a moment. */
    private void rest(ApiException why) {
      long now = System.nanoTime();
      if (toldNs == null || now - toldNs >= TELL_EVERY_NS) {
        toldNs = now;
        LOG.warn("{} is not read, and tried again: {}", read.topic(), why.getMessage());
      }
      isWaitedFor(PAUSE_MS);
    }

    /** Assigns the partitions that have come since the last call. As a rule the consumer knows them without asking. */
    private void assign() {
      List<PartitionInfo> partitions = consumer.partitionsFor(read.topic());
      if (partitions.size() <= known) {
        return;
      }
      Set<TopicPartition> assigned = new HashSet<>(consumer.assignment());
      List<TopicPartition> fresh = new ArrayList<>();
      for (PartitionInfo partition : partitions) {
        TopicPartition candidate = partition(partition.partition());
        if (!assigned.contains(candidate) && own.stream().anyMatch(split -> split.owns(candidate.partition()))) {
          fresh.add(candidate);
        }
      }
      assigned.addAll(fresh);
      consumer.assign(assigned);
      for (TopicPartition partition : fresh) {
        Long offset = marked(partition);
        if (offset != null) {
          consumer.seek(partition, offset);
        } else {
          withoutPosition.add(partition);
          if (known > 0 || isRestored) {
            added.add(partition);
          }
        }
      }
      if (known > 0 && !fresh.isEmpty()) {
        LOG.info("partitions of {} were added, and are read: {}", read.topic(), fresh);
      }
      known = partitions.size();
    }

    private Long marked(TopicPartition partition) {
      synchronized (TopicReader.this) {
        return next.get(partition.partition());
      }
    }

    private void pack(ConsumerRecords<byte[], byte[]> polled, boolean hasMore) {
      synchronized (TopicReader.this) {
        isDry = false;
        for (TopicPartition partition : polled.partitions()) {
          List<ConsumerRecord<byte[], byte[]>> records = polled.records(partition);
          long behind = records.get(0).offset();
          next.putIfAbsent(partition.partition(), behind);
          for (ConsumerRecord<byte[], byte[]> record : records) {
            if (isFull()) {
              packed.put(partition.partition(), behind);
              if (!hasRoomAgain()) {
                return; // what is left is read again after the restart
              }
            }
            if (frame.records() == 0) {
              firstPackedNs = System.nanoTime();
            }
            frame.add(
                record.partition(), record.offset(), record.timestamp(), record.key(), record.value(), record.headers());
            behind = record.offset() + 1;
          }
          packed.put(partition.partition(), behind);
        }
        isDry = !hasMore;
        TopicReader.this.notifyAll();
      }
    }

    /** Waits until the full frame is taken; returns false if the reader is closed first. */
    private boolean hasRoomAgain() {
      synchronized (TopicReader.this) {
        TopicReader.this.notifyAll();
        while (isFull() && !isClosed && isWaitedFor(PAUSE_MS)) {}
        return !isFull();
      }
    }

    /** Notes where partitions begin of which no record has come yet, so that a mark and a commit name all of them. */
    private void note() {
      synchronized (TopicReader.this) {
        withoutPosition.removeIf(partition -> next.containsKey(partition.partition()));
      }
      try {
        for (TopicPartition partition : withoutPosition) {
          long position = consumer.position(partition, Duration.ZERO);
          synchronized (TopicReader.this) {
            next.put(partition.partition(), position);
          }
        }
      } catch (TimeoutException e) {
        // It is asked for while the consumer polls.
      }
    }

    private void commit() {
      Map<TopicPartition, OffsetAndMetadata> offsets = due();
      if (!offsets.isEmpty()) {
        consumer.commitAsync(
            offsets,
            (committed, e) -> {
              if (e != null) {
                LOG.warn("offsets of {} are not committed before the next checkpoint: {}", read.topic(), e.getMessage());
              }
            });
      }
    }
  }
}
