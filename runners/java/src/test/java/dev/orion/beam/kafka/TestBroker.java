package dev.orion.beam.kafka;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.RetriableException;

/**
 * A real Kafka of one node. It runs in a JVM of its own, since its classes are of another version than the job's
 * client.
 */
final class TestBroker implements AutoCloseable {
  private static final int ATTEMPTS = 5;
  private static final long START_TIMEOUT_S = 300;
  private static final long LOOK_EVERY_MS = 20;

  private final Path directory;
  private final Process process;
  private final String bootstrapServers;

  private TestBroker(Path directory, Process process, int port) {
    this.directory = directory;
    this.process = process;
    this.bootstrapServers = "127.0.0.1:" + port;
  }

  /** Starts a broker on free ports; tries other ports when another process takes one first. */
  static TestBroker start() throws Exception {
    for (int attempt = 1; ; attempt++) {
      TestBroker broker = launch();
      try {
        broker.awaitReady();
        return broker;
      } catch (Exception e) {
        String log = Files.readString(broker.directory.resolve("broker.log"));
        broker.close();
        if (attempt == ATTEMPTS || !log.contains("Address already in use")) {
          throw new IllegalStateException("the broker does not start:\n" + log, e);
        }
      }
    }
  }

  String bootstrapServers() {
    return bootstrapServers;
  }

  /**
   * Creates a topic and waits until the broker leads its partitions, which shows when the broker returns their offsets.
   *
   * <p>Before that, a partition can refuse an idempotent producer's first batch and accept the second one. It then
   * refuses the first one as out of order for as long as the producer retries, which is two minutes.
   */
  void createTopic(String name, int partitions) throws Exception {
    try (Admin admin = admin()) {
      admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all().get();
    }
    awaitLeaders(name, partitions);
  }

  /** Waits until the broker leads this many partitions of a topic. */
  void awaitLeaders(String name, int partitions) throws Exception {
    try (Admin admin = admin()) {
      Map<TopicPartition, OffsetSpec> ends =
          IntStream.range(0, partitions)
              .mapToObj(partition -> new TopicPartition(name, partition))
              .collect(Collectors.toMap(Function.identity(), partition -> OffsetSpec.latest()));
      while (!isLed(admin, ends)) {
        Thread.sleep(LOOK_EVERY_MS);
      }
    }
  }

  private static boolean isLed(Admin admin, Map<TopicPartition, OffsetSpec> ends) throws Exception {
    try {
      admin.listOffsets(ends).all().get();
      return true;
    } catch (ExecutionException e) {
      if (e.getCause() instanceof RetriableException) {
        return false; // UnknownTopicOrPartition, until the broker knows that it leads the partition
      }
      throw e;
    }
  }

  Admin admin() {
    return Admin.create(Map.of("bootstrap.servers", bootstrapServers));
  }

  @Override
  public void close() throws Exception {
    process.destroyForcibly().waitFor();
    try (Stream<Path> files = Files.walk(directory)) {
      for (Path file : files.sorted((a, b) -> b.compareTo(a)).toList()) {
        Files.delete(file);
      }
    }
  }

  private static TestBroker launch() throws Exception {
    Path directory = Files.createTempDirectory("orion-kafka");
    int port;
    int controllerPort;
    InetAddress loopback = InetAddress.getByName("127.0.0.1");
    try (ServerSocket one = new ServerSocket(0, 1, loopback);
        ServerSocket other = new ServerSocket(0, 1, loopback)) {
      port = one.getLocalPort();
      controllerPort = other.getLocalPort();
    }
    Path properties = directory.resolve("server.properties");
    Files.write(
        properties,
        List.of(
            "process.roles=broker,controller",
            "node.id=1",
            "controller.quorum.voters=1@127.0.0.1:" + controllerPort,
            "listeners=PLAINTEXT://127.0.0.1:" + port + ",CONTROLLER://127.0.0.1:" + controllerPort,
            "controller.listener.names=CONTROLLER",
            "log.dirs=" + directory.resolve("data"),
            "message.max.bytes=16777216",
            "offsets.topic.num.partitions=1",
            "offsets.topic.replication.factor=1"));
    Process format =
        java(directory, "kafka.tools.StorageTool", "format", "-t", Uuid.randomUuid().toString(), "-c", properties.toString());
    if (format.waitFor() != 0) {
      throw new IllegalStateException("format failed:\n" + Files.readString(directory.resolve("broker.log")));
    }
    return new TestBroker(directory, java(directory, "kafka.Kafka", properties.toString()), port);
  }

  /** Starts a main class of the broker under ParentGuard, so that a killed test leaves no process behind. */
  private static Process java(Path directory, String mainClass, String... args) throws IOException {
    String jars = Path.of(System.getProperty("orion.kafka.directory"), "*").toString();
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of("-Xmx512m", "-Dorion.main.class=" + mainClass, "-cp"));
    command.add(Path.of("target", "classes").toAbsolutePath() + System.getProperty("path.separator") + jars);
    command.add("dev.orion.beam.ParentGuard");
    command.addAll(List.of(args));
    return new ProcessBuilder(command)
        .redirectErrorStream(true)
        .redirectOutput(ProcessBuilder.Redirect.appendTo(directory.resolve("broker.log").toFile()))
        .start();
  }

  private void awaitReady() throws Exception {
    long giveUpAt = System.nanoTime() + TimeUnit.SECONDS.toNanos(START_TIMEOUT_S);
    try (Admin admin = admin()) {
      while (true) {
        try {
          admin.describeCluster().nodes().get(5, TimeUnit.SECONDS);
          return;
        } catch (ExecutionException | java.util.concurrent.TimeoutException e) {
          if (!process.isAlive() || System.nanoTime() > giveUpAt) {
            throw e;
          }
        }
      }
    }
  }
}
