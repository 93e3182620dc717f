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
 * Says that a job reads a topic: a member of the consumer group {@code <group>.lease}, whose client id names the job and
 * the topic.
 *
 * <p>Kafka IO assigns partitions itself, so Kafka does not see that two jobs share a group. {@code orion-beam run}
 * asks for the members of the lease before it starts a job. Kafka watches over their heartbeats: one whose job has ended
 * leaves, one whose process has died is gone after the session timeout. Nothing is fetched, and no job asks for itself, so
 * that one that restarts is never in its own way.
 *
 * <p>The readers of a topic in one JVM share a member.
 *
 * @param consumer settings of the reading consumer
 * @param clientId what tells whose lease it is
 * @param topic that is read
 */
record JobLease(HashMap<String, Object> consumer, String clientId, String topic) implements Serializable {
  private static final Logger LOG = LoggerFactory.getLogger(JobLease.class);
  private static final Duration LOOK = Duration.ofSeconds(1);
  private static final Duration REST = Duration.ofSeconds(30);
  private static final Duration LEAVING = Duration.ofSeconds(2);
  private static final String SUFFIX = ".lease";
  private static final int LONGEST_HEARTBEAT_MS = 3_000;

  private static final Map<String, Member> MEMBERS = new HashMap<>();

  /** Joins, or counts one reader more. */
  void take() {
    synchronized (MEMBERS) {
      MEMBERS.computeIfAbsent(clientId, id -> new Member(this)).readers++;
    }
  }

  /** Counts one reader less, and leaves with the last one. */
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

  /** Assigns no partition to anybody: a lease reads nothing. */
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

  /** The member, in a thread of its own: the one that reads may be held back for minutes. */
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

    /** Leaves the group, so that the next job need not wait; but no longer than a moment for a broker that is gone. */
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

    /** Stays a member. What goes wrong never harms the job: the lease guards against a second one, and is no part of it. */
    private void hold() {
      while (isHeld(Duration.ZERO)) {
        try (KafkaConsumer<byte[], byte[]> member = new KafkaConsumer<>(lease.settings())) {
          consumer.set(member);
          member.subscribe(List.of(lease.topic));
          while (isHeld(Duration.ZERO)) {
            member.poll(LOOK);
          }
        } catch (WakeupException e) {
          // It leaves: closing, it has told Kafka so.
        } catch (KafkaException e) {
          LOG.warn("the lease of {} is not held, and tried again in {} s: {}", lease.topic, REST.toSeconds(), e.getMessage());
          isHeld(REST);
        }
      }
    }

    /** Waits for so long, unless the last reader goes; returns whether it is still there. */
    private boolean isHeld(Duration wait) {
      try {
        return !left.await(wait.toMillis(), TimeUnit.MILLISECONDS);
      } catch (InterruptedException e) {
        return false;
      }
    }
  }
}
