package org.apache.beam.sdk.io.kafka;

import java.io.Serializable;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Lease that shows that a job reads a topic: a member of the consumer group {@code <group>.lease}, whose client id
 * names the job and the topic.
 *
 * <p>Kafka IO assigns partitions itself, so Kafka does not notice that two jobs share a group. Therefore {@code
 * orion-beam run} lists the members of the lease group before it starts a job. A member leaves the group when its job
 * ends. If its process dies, Kafka misses its heartbeats and removes it after the session timeout. A member fetches no
 * records. A running job never checks the lease, so that a job that restarts cannot block itself.
 *
 * <p>All readers of a topic in one JVM share one member.
 *
 * @param consumer settings of the consumer that reads the topic
 * @param clientId client id of the member, which names the job and the topic
 * @param topic topic that the job reads
 */
record JobLease(HashMap<String, Object> consumer, String clientId, String topic) implements Serializable {
  private static final Logger LOG = LoggerFactory.getLogger(JobLease.class);
  private static final Duration LOOK = Duration.ofSeconds(1);
  private static final Duration REST = Duration.ofSeconds(30);
  private static final Duration LEAVING = Duration.ofSeconds(2);
  private static final String SUFFIX = ".lease";
  private static final int LONGEST_HEARTBEAT_MS = 3_000;

  private static final Map<String, Member> MEMBERS = new HashMap<>();

  /** Joins the group for the first reader, and counts one more reader. */
  void take() {
    synchronized (MEMBERS) {
      MEMBERS.computeIfAbsent(clientId, id -> new Member(this)).readers++;
    }
  }

  /** Counts one reader less, and leaves the group with the last one. */
  void giveBack() {
    Member last = null;
    synchronized (MEMBERS) {
      Member member = MEMBERS.get(clientId);
      if (member != null && --member.readers == 0) {
        last = MEMBERS.remove(clientId);
      }
    }
    if (last != null) {
      last.leave();
    }
  }

  private Map<String, Object> settings() {
    Map<String, Object> settings = new HashMap<>(consumer);
    settings.remove(ConsumerConfig.GROUP_INSTANCE_ID_CONFIG);
    settings.put(ConsumerConfig.GROUP_ID_CONFIG, consumer.get(ConsumerConfig.GROUP_ID_CONFIG) + SUFFIX);
    settings.put(ConsumerConfig.GROUP_PROTOCOL_CONFIG, "classic");
    settings.put(ConsumerConfig.CLIENT_ID_CONFIG, clientId);
    settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
    settings.put(ConsumerConfig.PARTITION_ASSIGNMENT_STRATEGY_CONFIG, List.of(Nothing.class));
    settings.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
    settings.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
    Object session = consumer.get(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG);
    if (session != null) {
      int heartbeatMs = Math.min(LONGEST_HEARTBEAT_MS, Integer.parseInt(session.toString().trim()) / 3);
      settings.put(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG, heartbeatMs);
    }
    return settings;
  }

  /** Assignor that assigns no partitions, since a lease reads nothing. */
  public static final class Nothing implements ConsumerPartitionAssignor {
    @Override
    public String name() {
      return "orion-lease";
    }

    @Override
    public GroupAssignment assign(Cluster cluster, GroupSubscription group) {
      Map<String, Assignment> nothing = new HashMap<>();
      group.groupSubscription().keySet().forEach(member -> nothing.put(member, new Assignment(List.of())));
      return new GroupAssignment(nothing);
    }
  }

  /** Member of the lease group. It has a thread of its own, since the reading thread may be blocked for minutes. */
  private static final class Member {
    private final JobLease lease;
    private final CountDownLatch left = new CountDownLatch(1);
    private final AtomicReference<KafkaConsumer<byte[], byte[]>> consumer = new AtomicReference<>();
    private final Thread thread;
    private int readers;

    Member(JobLease lease) {
      this.lease = lease;
      this.thread = new Thread(this::hold, "orion-lease " + lease.topic);
      thread.setDaemon(true);
      thread.start();
    }

    /** Leaves the group, so that the next job need not wait. Waits at most 2 s, in case the broker does not answer. */
    void leave() {
      left.countDown();
      KafkaConsumer<byte[], byte[]> member = consumer.get();
      if (member != null) {
        member.wakeup();
      }
      try {
        thread.join(LEAVING.toMillis());
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    }

    /** Stays a member until the last reader is closed. An error is logged and retried, and never fails the job. */
    private void hold() {
      while (isHeld(Duration.ZERO)) {
        try (KafkaConsumer<byte[], byte[]> member = new KafkaConsumer<>(lease.settings())) {
          consumer.set(member);
          member.subscribe(List.of(lease.topic));
          while (isHeld(Duration.ZERO)) {
            member.poll(LOOK);
          }
        } catch (WakeupException e) {
          // leave() has interrupted the poll. Closing the consumer has told Kafka that the member leaves.
        } catch (KafkaException e) {
          LOG.warn("the lease of {} is not held, and tried again in {} s: {}", lease.topic, REST.toSeconds(), e.getMessage());
          isHeld(REST);
        }
      }
    }

    /** Waits for this time, or until the last reader is closed; returns whether a reader is left. */
    private boolean isHeld(Duration wait) {
      try {
        return !left.await(wait.toMillis(), TimeUnit.MILLISECONDS);
      } catch (InterruptedException e) {
        return false;
      }
    }
  }
}
