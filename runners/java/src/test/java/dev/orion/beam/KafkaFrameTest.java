package dev.orion.beam;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.junit.jupiter.api.Test;

/** Test of the layout, byte by byte. {@code tests/orion_beam/io/test_frames.py} shows that Python reads it back. */
class KafkaFrameTest {
  private final KafkaFrame frame = new KafkaFrame("cdr");

  @Test
  void writesOnlyTheSectionsThatAreNeeded() {
    frame.add(7, 42L, 1000L, bytes("k"), bytes("value"), new RecordHeaders());

    ByteBuffer in = read(frame.write());

    assertInts(in, KafkaFrame.MAGIC, KafkaFrame.VERSION, 1, 0, 3, 1, 5, 0, 0, 0);
    assertBytes(in, "cdr");
    assertEquals(42L, in.getLong());
    assertEquals(1000L, in.getLong());
    assertInts(in, 7);
    align(in);
    assertInts(in, 0, 1);
    assertBytes(in, "k");
    assertInts(in, 0, 5);
    assertBytes(in, "value");
    assertEquals(0, in.remaining());
  }

  @Test
  void tellsNullFromEmptyInBitmaps() {
    frame.add(0, 0L, -1L, null, bytes(""), new RecordHeaders());
    frame.add(0, 1L, -1L, bytes(""), null, new RecordHeaders());

    ByteBuffer in = read(frame.write());

    assertInts(in, KafkaFrame.MAGIC, KafkaFrame.VERSION, 2, 0, 3, 0, 0, 0, 0, 1 | 2);
    assertBytes(in, "cdr");
    in.position(in.position() + 2 * 2 * Long.BYTES + 2 * Integer.BYTES);
    assertEquals(0b10L, in.getLong());
    assertInts(in, 0, 0, 0);
    align(in);
    assertEquals(0b01L, in.getLong());
    assertInts(in, 0, 0, 0);
    align(in);
    assertEquals(0, in.remaining());
  }

  @Test
  void writesHeadersAsLists() {
    frame.add(0, 0L, 0L, null, null, new RecordHeaders());
    frame.add(0, 1L, 0L, null, null, new RecordHeaders().add("a", bytes("1")).add("é", null));

    ByteBuffer in = read(frame.write());

    assertInts(in, KafkaFrame.MAGIC, KafkaFrame.VERSION, 2, 2, 3, 0, 0, 3, 1, 1 | 2 | 4);
    int keysAndValues = 2 * (8 + 16);
    in.position(48 + 2 * 2 * Long.BYTES + 2 * Integer.BYTES + keysAndValues);
    assertInts(in, 0, 0, 2);
    align(in);
    assertInts(in, 0, 1, 3);
    align(in);
    assertBytes(in, "aé");
    assertEquals(0b01L, in.getLong());
    assertInts(in, 0, 1, 1);
    align(in);
    assertBytes(in, "1");
    assertEquals(0, in.remaining());
  }

  @Test
  void startsAnewAfterEachFrame() {
    for (int i = 0; i < 1000; i++) {
      frame.add(0, i, 0L, bytes("key"), bytes("value"), new RecordHeaders().add("h", null));
    }
    assertEquals(1000, frame.records());
    assertEquals(1000 * (3 + 5 + 1), frame.bytes());
    byte[] first = frame.write();
    byte[] kept = first.clone();
    assertEquals(0, frame.records());
    assertEquals(0, frame.bytes());

    frame.add(9, 9L, 9L, bytes("k"), bytes("value"), new RecordHeaders());
    byte[] second = frame.write();

    KafkaFrame fresh = new KafkaFrame("cdr");
    fresh.add(9, 9L, 9L, bytes("k"), bytes("value"), new RecordHeaders());
    assertArrayEquals(fresh.write(), second);
    assertArrayEquals(kept, first);
  }

  @Test
  void whatIsAppendedIsAsIfItHadBeenAdded() {
    KafkaFrame whole = new KafkaFrame("cdr");
    KafkaFrame[] parts = {new KafkaFrame("cdr"), new KafkaFrame("cdr"), new KafkaFrame("cdr")};
    for (int i = 0; i < 300; i++) {
      byte[] key = i % 7 == 0 ? null : bytes("key" + i);
      byte[] value = i % 5 == 0 ? null : new byte[i];
      RecordHeaders headers = new RecordHeaders();
      for (int h = 0; h < i % 3; h++) {
        headers.add("h" + i, i % 2 == 0 ? null : bytes("v"));
      }
      whole.add(i % 4, i, i - 1, key, value, headers);
      parts[i / 100].add(i % 4, i, i - 1, key, value, headers);
    }

    for (KafkaFrame part : parts) {
      frame.append(part);
    }

    assertEquals(whole.bytes(), frame.bytes());
    assertArrayEquals(whole.write(), frame.write());
  }

  private static ByteBuffer read(byte[] frame) {
    assertEquals(0, frame.length % 8);
    return ByteBuffer.wrap(frame).order(ByteOrder.LITTLE_ENDIAN);
  }

  private static void assertInts(ByteBuffer in, int... expected) {
    for (int value : expected) {
      assertEquals(value, in.getInt());
    }
  }

  private static void assertBytes(ByteBuffer in, String expected) {
    byte[] actual = new byte[bytes(expected).length];
    in.get(actual);
    assertArrayEquals(bytes(expected), actual);
    align(in);
  }

  private static void align(ByteBuffer in) {
    while (in.position() % 8 != 0) {
      assertEquals(0, in.get());
    }
  }

  private static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }
}
