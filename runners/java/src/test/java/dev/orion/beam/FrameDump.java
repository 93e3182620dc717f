package dev.orion.beam;

import java.io.DataInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;

/**
 * Program that reads records from standard input and writes their frame to standard output, so that Python tests read
 * frames that Java has written. Run it from source: {@code java -cp 'JARS/*' FrameDump.java}.
 *
 * <p>The input is big endian: topic; int32 number of records; for each record int32 partition, int64 offset, int64
 * timestamp, key, value, int32 number of headers, and for each header its key and value. A string is an int32 length
 * (-1 for null) and its bytes.
 */
public final class FrameDump {
  private FrameDump() {}

  public static void main(String[] args) throws IOException {
    DataInputStream in = new DataInputStream(System.in);
    KafkaFrame frame = new KafkaFrame(new String(bytes(in), StandardCharsets.UTF_8));
    for (int records = in.readInt(); records > 0; records--) {
      frame.add(in.readInt(), in.readLong(), in.readLong(), bytes(in), bytes(in), headers(in));
    }
    System.out.write(frame.write());
    System.out.flush();
  }

  private static Headers headers(DataInputStream in) throws IOException {
    Headers headers = new RecordHeaders();
    for (int count = in.readInt(); count > 0; count--) {
      headers.add(new String(bytes(in), StandardCharsets.UTF_8), bytes(in));
    }
    return headers;
  }

  private static byte[] bytes(DataInputStream in) throws IOException {
    int length = in.readInt();
    return length < 0 ? null : in.readNBytes(length);
  }
}
