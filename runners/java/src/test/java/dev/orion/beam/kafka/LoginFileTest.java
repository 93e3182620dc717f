package dev.orion.beam.kafka;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.config.ConfigException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the file of a login gives to Kafka's client, and that an error names the file and never a value. */
class LoginFileTest {
  private static final String SECURITY = "org.apache.kafka.common.security.";

  @TempDir Path directory;

  @Test
  void buildsTheLineOfEachMechanism() throws IOException {
    String user = "sasl.username = me\nsasl.password=a\"b\\=c\n";
    assertEquals(
        SECURITY + "scram.ScramLoginModule required username=\"me\" password=\"a\\\"b\\\\=c\";",
        value("# comment\n\nsasl.mechanism=SCRAM-SHA-512\n" + user, "sasl.jaas.config"));
    assertEquals(
        SECURITY + "plain.PlainLoginModule required username=\"me\" password=\"a\\\"b\\\\=c\";",
        value("sasl.mechanisms=PLAIN\n" + user, "sasl.jaas.config"));
    assertEquals(
        SECURITY + "oauthbearer.OAuthBearerLoginModule required clientId=\"me\" clientSecret=\"s\" scope=\"k\";",
        value(
            "sasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.client.id=me\nsasl.oauthbearer.client.secret=s\n"
                + "sasl.oauthbearer.scope=k\n",
            "sasl.jaas.config"));
  }

  @Test
  void takesWhatStandsThereAsItIs() throws IOException {
    String line = "com.example.Login required password=\"x=y\";";
    assertEquals(line, value("consumer.sasl.jaas.config=" + line + "\n", "consumer.sasl.jaas.config"));
    assertEquals("p", value("ssl.key.password=p\n", "ssl.key.password"));
  }

  @Test
  void readsTheKeyBesideTheFile() throws IOException {
    Files.writeString(directory.resolve("key.pem"), "KEY\n");
    assertEquals("KEY\n", value("ssl.key.location=key.pem\n", "ssl.key.pem"));
  }

  @Test
  void saysWhatIsMissing() {
    ConfigException lacks = assertThrows(ConfigException.class, () -> value("sasl.password=hunter2\n", "ssl.key.password"));
    assertTrue(lacks.getMessage().contains("has no ssl.key.password"));
    ConfigException gone = assertThrows(ConfigException.class, () -> provider(Path.of("/nowhere")).get("", Set.of("x")));
    assertTrue(gone.getMessage().contains("cannot read /nowhere"));
    assertTrue(gone.getMessage().contains(LoginFile.VARIABLE));
  }

  @Test
  void kafkasClientPutsSecretsInPlaceOfReferences() throws IOException {
    Path file = directory.resolve("client.properties");
    Files.writeString(file, "sasl.mechanism=PLAIN\nsasl.username=me\nsasl.password=hunter2\n");
    Map<String, Object> settings = new HashMap<>();
    settings.put("bootstrap.servers", "broker:9092");
    settings.put("key.deserializer", ByteArrayDeserializer.class);
    settings.put("value.deserializer", ByteArrayDeserializer.class);
    settings.put("sasl.jaas.config", "${login:sasl.jaas.config}");
    settings.put("config.providers", "login");
    settings.put("config.providers.login.class", LoginFile.class.getName());
    settings.put("config.providers.login.param.file", file.toString());
    ConsumerConfig resolved = new ConsumerConfig(settings);
    assertTrue(resolved.getPassword("sasl.jaas.config").value().contains("username=\"me\" password=\"hunter2\";"));
    assertFalse(resolved.values().toString().contains("hunter2"));
  }

  private String value(String text, String name) throws IOException {
    Path file = directory.resolve("client.properties");
    Files.writeString(file, text);
    try (LoginFile login = provider(file)) {
      return login.get("", Set.of(name)).data().get(name);
    }
  }

  private static LoginFile provider(Path file) {
    LoginFile login = new LoginFile();
    login.configure(Map.of("file", file.toString()));
    return login;
  }
}
