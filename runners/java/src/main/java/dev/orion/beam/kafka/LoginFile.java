package dev.orion.beam.kafka;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import org.apache.kafka.common.config.ConfigData;
import org.apache.kafka.common.config.ConfigException;
import org.apache.kafka.common.config.provider.ConfigProvider;

/**
 * Secrets of the login file, which Kafka's client puts in place of {@code ${login:NAME}} where it runs. So no job, and
 * nothing that Flink keeps or shows of it, holds a secret.
 *
 * <p>The file is that of {@code orion_beam/kafka/login.py}. The environment of this process may name it, as {@value
 * #VARIABLE}; otherwise it lies where it lay on the host that submitted the job.
 */
public final class LoginFile implements ConfigProvider {
  static final String VARIABLE = "ORION_KAFKA_CONFIG";

  private static final String SECURITY = "org.apache.kafka.common.security.";
  private static final String PLAIN_OR_SCRAM = SECURITY + "%s required username=%s password=%s;";
  private static final String OAUTH = SECURITY + "oauthbearer.OAuthBearerLoginModule required";
  private static final String JAAS = "sasl.jaas.config";
  private static final Pattern ESCAPED = Pattern.compile("([\"\\\\])");

  private String named = "";

  @Override
  public void configure(Map<String, ?> configs) {
    String here = System.getenv(VARIABLE);
    named = here == null || here.isEmpty() ? String.valueOf(configs.get("file")) : here;
  }

  @Override
  public ConfigData get(String path) {
    throw new ConfigException("write ${login:NAME}");
  }

  @Override
  public ConfigData get(String path, Set<String> names) {
    Path file = Path.of(named);
    Map<String, String> settings = new HashMap<>();
    read(file)
        .lines()
        .map(String::strip)
        .filter(line -> !line.isEmpty() && !line.startsWith("#") && !line.startsWith("!"))
        .map(line -> line.split("=", 2))
        .filter(parts -> parts.length == 2)
        .forEach(parts -> settings.put(parts[0].strip(), parts[1].strip()));
    Map<String, String> found = new HashMap<>();
    for (String name : names) {
      String value = settings.get(name);
      if (value == null && name.equals(JAAS)) {
        value = jaas(settings);
      } else if (value == null && name.equals("ssl.key.pem") && settings.containsKey("ssl.key.location")) {
        value = read(file.resolveSibling(settings.get("ssl.key.location")));
      }
      if (value == null) {
        throw new ConfigException("the login file " + file + " has no " + name + ", which the job's login has");
      }
      found.put(name, value);
    }
    return new ConfigData(found);
  }

  @Override
  public void close() {
    // It holds nothing open.
  }

  private static String jaas(Map<String, String> settings) {
    String mechanism = settings.getOrDefault("sasl.mechanism", settings.getOrDefault("sasl.mechanisms", ""));
    if (mechanism.equals("OAUTHBEARER")) {
      String scope = settings.get("sasl.oauthbearer.scope");
      return OAUTH
          + " clientId="
          + quoted(settings.get("sasl.oauthbearer.client.id"))
          + " clientSecret="
          + quoted(settings.get("sasl.oauthbearer.client.secret"))
          + (scope == null ? "" : " scope=" + quoted(scope))
          + ";";
    }
    String module = mechanism.equals("PLAIN") ? "plain.PlainLoginModule" : "scram.ScramLoginModule";
    return String.format(
        PLAIN_OR_SCRAM, module, quoted(settings.get("sasl.username")), quoted(settings.get("sasl.password")));
  }

  private static String quoted(String text) {
    return '"' + ESCAPED.matcher(text == null ? "" : text).replaceAll("\\\\$1") + '"';
  }

  private static String read(Path file) {
    try {
      return Files.readString(file);
    } catch (IOException e) {
      throw new ConfigException(
          "this task manager cannot read "
              + file
              + ", which holds the login to Kafka: put it there, or name its place in "
              + VARIABLE
              + " in the environment of task managers and workers");
    }
  }
}
