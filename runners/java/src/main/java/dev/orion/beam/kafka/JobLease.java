package dev.orion.beam.kafka;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.BiConsumer;
import org.apache.flink.runtime.execution.SuppressRestartsException;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.Configurable;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.TopicAuthorizationException;
import org.apache.kafka.common.errors.WakeupException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Lease of a topic in a consumer group, so that one job reads it at a time. All readers of a topic in one JVM share
 * one.
 *
 * <p>The readers assign partitions themselves, so Kafka does not notice that two jobs share a group. Each lease is a
 * member of a second group, {@code <group>.lease}, in which no partition is assigned. Its client id names the
 * submission and the topic; {@code orion-beam} lists these.
 *
 * <p>Whenever a member comes or goes, Kafka lets one of the members decide who holds each topic ({@link Verdict}), and
 * tells all of them. A member that holds the topic, and has been a member since, keeps it. Otherwise the submission
 * that was made first gets it. Kafka removes a member whose heartbeats it has missed for the session timeout. If the
 * member comes back, it is a new one, and has lost the topic if another submission got it meanwhile.
 *
 * <p>As long as no broker answers, or the user may not read the topic, nothing is decided, and a holder stays one.
 */
final class JobLease {
  private static final Logger LOG = LoggerFactory.getLogger(JobLease.class);
  private static final Duration LOOK = Duration.ofSeconds(1);
  private static final Duration REST = Duration.ofSeconds(30);
  private static final Duration LEAVING = Duration.ofSeconds(4);
  private static final String SUFFIX = ".lease";
  private static final String OWN_SETTING = "orion.lease";
  private static final String COMPACT_TIME = "(\\d{4})(\\d\\d)(\\d\\d)T(\\d\\d)(\\d\\d)(\\d\\d)Z";
  private static final int LONGEST_HEARTBEAT_MS = 3_000;

  private static final Map<String, JobLease> LEASES = new HashMap<>();

  /**
   * Leaves the groups when this JVM is stopped. The JVM of embedded Flink ends without closing its readers, and its
   * successor would wait for a session timeout.
   */
  private static final Thread AT_EXIT = new Thread(JobLease::leaveAll, "orion-lease at exit");

  private enum State {
    /** Nothing is decided yet. */
    ASKED,
    /** This submission holds the topic, or reads it although another one does. */
    HELD,
    /** This process was stopped for a while, and may have lost the topic. */
    UNSURE,
    /** Another submission holds the topic. */
    REFUSED,
    /** The group refuses members of this user, so nobody can be told apart. */
    UNGUARDED
  }

  private final TopicRead read;
  private final String submission;
  private final boolean isSecond;
  private final long sessionNs;
  private final CountDownLatch left = new CountDownLatch(1);
  private final AtomicReference<KafkaConsumer<byte[], byte[]>> consumer = new AtomicReference<>();
  private final Thread thread;
  private int readers;
  private volatile State state = State.ASKED;
  private volatile String holder = "";
  private volatile String memberSinceHeld = "";
  private volatile long seenNs = System.nanoTime();

  private JobLease(TopicRead read, String submission, boolean isSecond) {
    this.read = read;
    this.submission = submission;
    this.isSecond = isSecond;
    this.sessionNs = TimeUnit.MILLISECONDS.toNanos(read.sessionTimeoutMs());
    this.thread = new Thread(this::hold, "orion-lease " + read.topic());
    thread.setDaemon(true);
    if (submission.isEmpty()) {
      state = State.UNGUARDED;
    } else {
      thread.start();
    }
  }

  /**
   * Asks for the lease, if no other reader of the topic in this JVM has it, and counts one more reader.
   *
   * @param submission identity of the submission; empty for none, which needs no lease
   * @param isSecond whether it may read while another submission holds the lease
   */
  static JobLease take(TopicRead read, String submission, boolean isSecond) {
    synchronized (LEASES) {
      if (LEASES.isEmpty()) {
        atExit(Runtime::addShutdownHook);
      }
      JobLease lease =
          LEASES.computeIfAbsent(submission + "/" + read.topic(), id -> new JobLease(read, submission, isSecond));
      lease.readers++;
      return lease;
    }
  }

  /** Counts one reader less, and leaves the group with the last one, so that the next job need not wait. */
  void giveBack() {
    synchronized (LEASES) {
      if (--readers > 0) {
        return;
      }
      LEASES.remove(submission + "/" + read.topic());
      if (LEASES.isEmpty()) {
        atExit(Runtime::removeShutdownHook); // or the TaskManager of a cluster would never unload this class
      }
    }
    leave();
    awaitLeft(LEAVING);
  }

  private void leave() {
    left.countDown();
    KafkaConsumer<byte[], byte[]> member = consumer.get();
    if (member != null) {
      member.wakeup();
    }
  }

  private void awaitLeft(Duration longest) {
    try {
      thread.join(longest.toMillis());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private static void leaveAll() {
    List<JobLease> leases;
    synchronized (LEASES) {
      leases = List.copyOf(LEASES.values());
    }
    leases.forEach(JobLease::leave);
    leases.forEach(lease -> lease.awaitLeft(LEAVING));
  }

  private static void atExit(BiConsumer<Runtime, Thread> change) {
    try {
      change.accept(Runtime.getRuntime(), AT_EXIT);
    } catch (IllegalStateException e) {
      // This JVM is ending already.
    }
  }

  /**
   * Ends the job if another submission holds the topic.
   *
   * @throws SuppressRestartsException which makes Flink end a job for good
   */
  void check() {
    if (state == State.REFUSED) {
      throw new SuppressRestartsException(new IllegalStateException(refusal()));
    }
  }

  /**
   * Returns whether the readers may hand out records and commit offsets. Does not block.
   *
   * @param hasRead whether this submission has read the topic within the last session timeout. Then it goes on while
   *     nothing is decided: a restart by Flink need not wait until Kafka has removed the members that are gone.
   */
  boolean isHeld(boolean hasRead) {
    boolean isAwake = System.nanoTime() - seenNs < sessionNs;
    return switch (state) {
      case UNGUARDED -> true;
      case HELD -> isAwake;
      case ASKED -> hasRead && isAwake;
      case UNSURE, REFUSED -> false;
    };
  }

  private String refusal() {
    String[] parts = holder.split("/");
    return String.format(
        "group %s: a job that was started on %s at %s holds the lease of %s; this one stops, or every record would come"
            + " out twice",
        read.group(), parts[3], parts[2].replaceAll(COMPACT_TIME, "$1-$2-$3T$4:$5:$6Z"), read.topic());
  }

  /** Stays a member until the last reader is closed. An error is logged and retried, and never fails the job. */
  private void hold() {
    while (isOpen(Duration.ZERO)) {
      try (KafkaConsumer<byte[], byte[]> member = new KafkaConsumer<>(settings())) {
        consumer.set(member);
        member.subscribe(List.of(read.topic()));
        while (isOpen(Duration.ZERO)) {
          long now = System.nanoTime();
          if (now - seenNs >= sessionNs && state == State.HELD) {
            LOG.warn("the lease of {} is asked for again: this process has stood still", read.topic());
            state = State.UNSURE;
            member.enforceRebalance();
          }
          seenNs = now;
          try {
            member.poll(LOOK);
          } catch (TopicAuthorizationException e) {
            isOpen(LOOK); // the readers tell of it; the membership lasts, since heartbeats need no right to the topic
          }
        }
      } catch (WakeupException e) {
        // giveBack() has interrupted the poll. Closing the consumer has told Kafka that the member leaves.
      } catch (KafkaException e) {
        state = State.UNGUARDED;
        LOG.warn(
            "the lease of {} is not held, and tried again in {} s: {}", read.topic(), REST.toSeconds(), e.getMessage());
        isOpen(REST);
        seenNs = System.nanoTime();
      }
    }
  }

  /** Waits for this time, or until the last reader is closed; returns whether a reader is left. */
  private boolean isOpen(Duration wait) {
    try {
      return !left.await(wait.toMillis(), TimeUnit.MILLISECONDS);
    } catch (InterruptedException e) {
      return false;
    }
  }

  private Map<String, Object> settings() {
    Map<String, Object> settings = read.settings();
    settings.remove(ConsumerConfig.GROUP_INSTANCE_ID_CONFIG);
    settings.put(ConsumerConfig.GROUP_ID_CONFIG, read.group() + SUFFIX);
    settings.put(ConsumerConfig.GROUP_PROTOCOL_CONFIG, "classic");
    settings.put(ConsumerConfig.CLIENT_ID_CONFIG, submission + "/" + read.topic());
    settings.put(ConsumerConfig.PARTITION_ASSIGNMENT_STRATEGY_CONFIG, List.of(Verdict.class));
    settings.put(
        ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG, Math.min(LONGEST_HEARTBEAT_MS, read.sessionTimeoutMs() / 3));
    settings.put(OWN_SETTING, this);
    return settings;
  }

  private void decided(String holder, String memberId) {
    this.holder = holder;
    boolean isOurs = isSecond || holder.isEmpty() || holder.equals(submission);
    memberSinceHeld = isOurs ? memberId : "";
    state = isOurs ? State.HELD : State.REFUSED;
    if (!isOurs) {
      LOG.error(refusal());
    }
  }

  /**
   * What a member says of itself when it joins.
   *
   * @param submission identity of its submission
   * @param memberSinceHeld member id that it had when it got the topic; empty if it does not hold it
   * @param isSecond whether it reads beside the holder, and cannot be one
   */
  private record Claim(String submission, String memberSinceHeld, boolean isSecond) {
    ByteBuffer encoded() {
      return bytes(submission + "\n" + memberSinceHeld + "\n" + isSecond);
    }

    static Claim of(ByteBuffer encoded) {
      String[] parts = text(encoded).split("\n");
      return new Claim(parts[0], parts[1], Boolean.parseBoolean(parts[2]));
    }
  }

  /** Assignor that assigns no partitions: it decides which submission holds each topic. Kafka runs it in one member. */
  public static final class Verdict implements ConsumerPartitionAssignor, Configurable {
    private static final Comparator<String> BY_START =
        Comparator.comparing((String submission) -> submission.split("/")[2]).thenComparing(Comparator.naturalOrder());

    private JobLease lease;

    @Override
    public void configure(Map<String, ?> settings) {
      lease = (JobLease) settings.get(OWN_SETTING);
    }

    @Override
    public String name() {
      return "orion-lease-1";
    }

    @Override
    public ByteBuffer subscriptionUserData(Set<String> topics) {
      return new Claim(lease.submission, lease.memberSinceHeld, lease.isSecond).encoded();
    }

    @Override
    public GroupAssignment assign(Cluster cluster, GroupSubscription group) {
      Map<String, List<String>> contenders = new HashMap<>();
      Map<String, List<String>> holders = new HashMap<>();
      group
          .groupSubscription()
          .forEach(
              (member, subscription) -> {
                Claim claim = Claim.of(subscription.userData());
                if (!claim.isSecond) {
                  String topic = subscription.topics().get(0);
                  contenders.computeIfAbsent(topic, key -> new ArrayList<>()).add(claim.submission);
                  if (claim.memberSinceHeld.equals(member)) {
                    holders.computeIfAbsent(topic, key -> new ArrayList<>()).add(claim.submission);
                  }
                }
              });
      Map<String, Assignment> assignments = new HashMap<>();
      group
          .groupSubscription()
          .forEach(
              (member, subscription) -> {
                String topic = subscription.topics().get(0);
                List<String> from = holders.getOrDefault(topic, contenders.getOrDefault(topic, List.of()));
                String holder = from.stream().min(BY_START).orElse("");
                assignments.put(member, new Assignment(List.of(), bytes(holder)));
              });
      return new GroupAssignment(assignments);
    }

    @Override
    public void onAssignment(Assignment assignment, ConsumerGroupMetadata member) {
      lease.decided(text(assignment.userData()), member.memberId());
    }
  }

  private static ByteBuffer bytes(String text) {
    return ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
  }

  private static String text(ByteBuffer bytes) {
    return bytes == null ? "" : StandardCharsets.UTF_8.decode(bytes.duplicate()).toString();
  }
}
