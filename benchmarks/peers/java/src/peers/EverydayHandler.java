package peers;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.OffsetDateTime;
import java.time.ZoneId;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeFormatterBuilder;
import java.time.format.DateTimeParseException;
import java.time.format.ResolverStyle;
import org.apache.avro.LogicalTypes;
import org.apache.avro.Schema;
import org.apache.avro.SchemaBuilder;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.EncoderFactory;

/** The everyday way: Strings, java.time and an Avro GenericRecord. */
final class EverydayHandler implements CdrHandler {
    private static final Schema SCHEMA = schema();
    private static final ZoneId PARIS = ZoneId.of("Europe/Paris");
    private static final DateTimeFormatter ISO =
            new DateTimeFormatterBuilder()
                    .append(DateTimeFormatter.ISO_LOCAL_DATE)
                    .appendPattern("['T'][' ']")
                    .append(DateTimeFormatter.ISO_LOCAL_TIME)
                    .appendPattern("[XXX][XX]")
                    .toFormatter()
                    .withResolverStyle(ResolverStyle.STRICT);

    private final Reference reference;
    private final GenericRecord cdr = new GenericData.Record(SCHEMA);
    private final GenericDatumWriter<GenericRecord> writer = new GenericDatumWriter<>(SCHEMA);
    private final ByteArrayOutputStream buffer = new ByteArrayOutputStream(512);
    private BinaryEncoder encoder;
    private byte[] imsi;
    private byte[] avro;

    EverydayHandler(Reference reference) {
        this.reference = reference;
        cdr.put("country", "FR");
        cdr.put("event_type", "data");
        cdr.put("timezone", "Europe/Paris");
    }

    @Override
    public String handle(byte[] value) throws IOException {
        String[] field = new String(value, StandardCharsets.UTF_8).split(";", -1);
        if (field.length != 8) {
            return "malformed_payload";
        }
        String subscriber = field[0];
        if (!isDigits(subscriber, 0, 14, 15)) {
            return "invalid_imsi";
        }
        String msisdn = field[1];
        boolean hasPlus = msisdn.startsWith("+");
        if (!isDigits(msisdn, hasPlus ? 1 : 0, 10, 15)) {
            return "invalid_msisdn";
        }
        String imei = field[2];
        if (!imei.isEmpty() && !isDigits(imei, 0, 14, 16)) {
            return "invalid_imei";
        }
        String rat = field[4];
        switch (rat) {
            case "2G", "3G", "4G", "5G" -> {}
            default -> {
                return "unknown_rat";
            }
        }
        if (!isDigits(field[5], 0, 1, 18) || !isDigits(field[6], 0, 1, 18)) {
            return "invalid_number";
        }
        OffsetDateTime time;
        try {
            time = OffsetDateTime.parse(field[7], ISO);
        } catch (DateTimeParseException bad) {
            return "invalid_timestamp";
        }
        ZonedDateTime local = time.atZoneSameInstant(PARIS);
        Reference.Place place = reference.places.get(field[3]);
        Reference.Subscriber known = reference.subscribers.get(subscriber);
        String mcc = subscriber.substring(0, 3);

        cdr.put("imsi", subscriber);
        cdr.put("msisdn", hasPlus ? msisdn : "+" + msisdn);
        cdr.put("imei", imei.isEmpty() ? null : imei);
        cdr.put("cell_id", field[3]);
        cdr.put("rat", rat);
        cdr.put("bytes_up", Long.parseLong(field[5]));
        cdr.put("bytes_down", Long.parseLong(field[6]));
        cdr.put("event_time", time.toInstant().toEpochMilli());
        cdr.put("mcc", mcc);
        cdr.put("mnc", subscriber.substring(3, 5));
        cdr.put("segment", known == null ? null : known.segment());
        cdr.put("plan", known == null ? null : known.plan());
        cdr.put("event_date", local.toLocalDate().toString());
        cdr.put("event_hour", local.getHour());
        cdr.put("is_roaming", !mcc.equals("208"));
        cdr.put("geo_lat", place == null ? null : place.lat());
        cdr.put("geo_lon", place == null ? null : place.lon());

        buffer.reset();
        encoder = EncoderFactory.get().binaryEncoder(buffer, encoder);
        writer.write(cdr, encoder);
        encoder.flush();
        avro = buffer.toByteArray();
        imsi = subscriber.getBytes(StandardCharsets.ISO_8859_1);
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

    private static boolean isDigits(String text, int from, int least, int most) {
        int length = text.length() - from;
        return length >= least
                && length <= most
                && text.chars().skip(from).allMatch(each -> each >= '0' && each <= '9');
    }

    private static Schema schema() {
        SchemaBuilder.FieldAssembler<Schema> fields = SchemaBuilder.record("Cdr").fields();
        for (String name : "imsi msisdn imei cell_id rat".split(" ")) {
            fields = fields.optionalString(name);
        }
        Schema millis = LogicalTypes.timestampMillis().addToSchema(Schema.create(Schema.Type.LONG));
        fields =
                fields.optionalLong("bytes_up")
                        .optionalLong("bytes_down")
                        .name("event_time")
                        .type(Schema.createUnion(Schema.create(Schema.Type.NULL), millis))
                        .withDefault(null);
        for (String name : "country event_type timezone mcc mnc segment plan event_date".split(" ")) {
            fields = fields.optionalString(name);
        }
        return fields.optionalInt("event_hour")
                .optionalBoolean("is_roaming")
                .optionalDouble("geo_lat")
                .optionalDouble("geo_lon")
                .endRecord();
    }
}
