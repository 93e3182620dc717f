package peers;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZonedDateTime;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.EncoderFactory;

/**
 * The hand-tuned way: no String where none is needed, fields by their place in the message's bytes, Avro's
 * BinaryEncoder in the order of EverydayHandler's schema, and the local hour of each UTC hour kept.
 */
final class TunedHandler implements CdrHandler {
    private static final ZoneId PARIS = ZoneId.of("Europe/Paris");
    private static final long HOUR_MS = 3_600_000L;
    private static final int MOST_HOURS = 100_000;
    private static final int FIELDS = 8;
    private static final byte[] PLUS = {'+'};
    private static final byte[] COUNTRY = ascii("FR");
    private static final byte[] EVENT_TYPE = ascii("data");
    private static final byte[] ZONE = ascii("Europe/Paris");

    private record LocalHour(byte[] date, int hour) {}

    private record Labels(byte[] segment, byte[] plan) {}

    private final Reference reference;
    private final Map<String, Labels> subscribers = new HashMap<>();
    private final Map<Long, LocalHour> localHours = new HashMap<>();
    private final ByteArrayOutputStream buffer = new ByteArrayOutputStream(512);
    private final int[] end = new int[FIELDS];
    private BinaryEncoder encoder;
    private byte[] imsi;
    private byte[] avro;

    TunedHandler(Reference reference) {
        this.reference = reference;
        reference.subscribers.forEach(
                (number, known) ->
                        subscribers.put(
                                number,
                                new Labels(
                                        known.segment().getBytes(StandardCharsets.UTF_8),
                                        known.plan().getBytes(StandardCharsets.UTF_8))));
    }

    @Override
    public String handle(byte[] value) throws IOException {
        int found = 0;
        for (int at = 0; at < value.length; at++) {
            if (value[at] == ';') {
                if (found == FIELDS - 1) {
                    return "malformed_payload";
                }
                end[found++] = at;
            }
        }
        if (found != FIELDS - 1) {
            return "malformed_payload";
        }
        end[FIELDS - 1] = value.length;

        if (!isDigits(value, 0, end[0], 14, 15)) {
            return "invalid_imsi";
        }
        int msisdn = end[0] + 1;
        boolean hasPlus = msisdn < end[1] && value[msisdn] == '+';
        if (!isDigits(value, hasPlus ? msisdn + 1 : msisdn, end[1], 10, 15)) {
            return "invalid_msisdn";
        }
        int imei = end[1] + 1;
        if (imei < end[2] && !isDigits(value, imei, end[2], 14, 16)) {
            return "invalid_imei";
        }
        int cell = end[2] + 1;
        int rat = end[3] + 1;
        if (end[4] - rat != 2 || value[rat + 1] != 'G' || value[rat] < '2' || value[rat] > '5') {
            return "unknown_rat";
        }
        int up = end[4] + 1;
        int down = end[5] + 1;
        if (!isDigits(value, up, end[5], 1, 18) || !isDigits(value, down, end[6], 1, 18)) {
            return "invalid_number";
        }
        long time = IsoTime.epochMillis(value, end[6] + 1, end[7]);
        if (time == IsoTime.INVALID) {
            return "invalid_timestamp";
        }

        LocalHour local = localHour(time);
        Labels known = subscribers.get(new String(value, 0, end[0], StandardCharsets.ISO_8859_1));
        Reference.Place place =
                reference.places.get(
                        new String(value, cell, end[3] - cell, StandardCharsets.UTF_8));

        buffer.reset();
        encoder = EncoderFactory.get().binaryEncoder(buffer, encoder);
        write(value, 0, end[0]);
        encoder.writeIndex(1);
        encoder.writeLong(end[1] - msisdn + (hasPlus ? 0 : 1));
        if (!hasPlus) {
            encoder.writeFixed(PLUS, 0, 1);
        }
        encoder.writeFixed(value, msisdn, end[1] - msisdn);
        if (imei == end[2]) {
            encoder.writeIndex(0);
        } else {
            write(value, imei, end[2]);
        }
        write(value, cell, end[3]);
        write(value, rat, end[4]);
        write(number(value, up, end[5]));
        write(number(value, down, end[6]));
        write(time);
        write(COUNTRY);
        write(EVENT_TYPE);
        write(ZONE);
        write(value, 0, 3);
        write(value, 3, 5);
        write(known == null ? null : known.segment());
        write(known == null ? null : known.plan());
        write(local.date());
        encoder.writeIndex(1);
        encoder.writeInt(local.hour());
        encoder.writeIndex(1);
        encoder.writeBoolean(value[0] != '2' || value[1] != '0' || value[2] != '8');
        if (place == null) {
            encoder.writeIndex(0);
            encoder.writeIndex(0);
        } else {
            encoder.writeIndex(1);
            encoder.writeDouble(place.lat());
            encoder.writeIndex(1);
            encoder.writeDouble(place.lon());
        }
        encoder.flush();
        avro = buffer.toByteArray();
        imsi = Arrays.copyOfRange(value, 0, end[0]);
        return null;
    }

    @Override
    public byte[] imsi() {
        return imsi;
    }

    @Override
    public byte[] avro() {
        return avro;
    }

    private void write(long number) throws IOException {
        encoder.writeIndex(1);
        encoder.writeLong(number);
    }

    private void write(byte[] text) throws IOException {
        if (text == null) {
            encoder.writeIndex(0);
        } else {
            write(text, 0, text.length);
        }
    }

    private void write(byte[] bytes, int from, int to) throws IOException {
        encoder.writeIndex(1);
        encoder.writeBytes(bytes, from, to - from);
    }

    /** The zone's offset from UTC does not change within an hour. */
    private LocalHour localHour(long time) {
        long hour = Math.floorDiv(time, HOUR_MS);
        LocalHour known = localHours.get(hour);
        if (known == null) {
            ZonedDateTime local = Instant.ofEpochMilli(time).atZone(PARIS);
            known = new LocalHour(ascii(local.toLocalDate().toString()), local.getHour());
            if (localHours.size() == MOST_HOURS) {
                localHours.clear();
            }
            localHours.put(hour, known);
        }
        return known;
    }

    private static byte[] ascii(String text) {
        return text.getBytes(StandardCharsets.ISO_8859_1);
    }

    private static boolean isDigits(byte[] bytes, int from, int to, int least, int most) {
        int length = to - from;
        if (length < least || length > most) {
            return false;
        }
        for (int at = from; at < to; at++) {
            if (bytes[at] < '0' || bytes[at] > '9') {
                return false;
            }
        }
        return true;
    }

    private static long number(byte[] digits, int from, int to) {
        long number = 0;
        for (int at = from; at < to; at++) {
            number = number * 10 + (digits[at] - '0');
        }
        return number;
    }
}
