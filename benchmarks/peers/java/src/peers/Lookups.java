package peers;

import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.function.BiConsumer;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.binary.BinaryStringData;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.functions.ScalarFunction;

/** The reference data as scalar functions of SQL. They cost less than lookup joins, which copy each row. */
public final class Lookups {
    static final String REFERENCE = "reference";

    /** A function from a key to one column of the reference data. */
    public abstract static class Lookup<T> extends ScalarFunction {
        private transient Map<StringData, T> values;

        abstract void read(Reference reference, BiConsumer<String, T> put);

        @Override
        public void open(FunctionContext context) throws Exception {
            values = new HashMap<>();
            Path directory = Path.of(context.getJobParameter(REFERENCE, null));
            read(new Reference(directory), (key, value) -> values.put(text(key), value));
        }

        final T find(StringData key) {
            return key == null ? null : values.get(key);
        }
    }

    /** Of a cell: a number. */
    public abstract static class OfCell extends Lookup<Double> {
        public @DataTypeHint("DOUBLE") Double eval(
                @DataTypeHint(value = "STRING", bridgedTo = StringData.class) StringData cell) {
            return find(cell);
        }
    }

    /** Of a subscriber: a text. */
    public abstract static class OfSubscriber extends Lookup<StringData> {
        public @DataTypeHint(value = "STRING", bridgedTo = StringData.class) StringData eval(
                @DataTypeHint(value = "STRING", bridgedTo = StringData.class) StringData imsi) {
            return find(imsi);
        }
    }

    public static final class Lat extends OfCell {
        @Override
        void read(Reference reference, BiConsumer<String, Double> put) {
            reference.places.forEach((cell, place) -> put.accept(cell, place.lat()));
        }
    }

    public static final class Lon extends OfCell {
        @Override
        void read(Reference reference, BiConsumer<String, Double> put) {
            reference.places.forEach((cell, place) -> put.accept(cell, place.lon()));
        }
    }

    public static final class Segment extends OfSubscriber {
        @Override
        void read(Reference reference, BiConsumer<String, StringData> put) {
            reference.subscribers.forEach((imsi, known) -> put.accept(imsi, text(known.segment())));
        }
    }

    public static final class Plan extends OfSubscriber {
        @Override
        void read(Reference reference, BiConsumer<String, StringData> put) {
            reference.subscribers.forEach((imsi, known) -> put.accept(imsi, text(known.plan())));
        }
    }

    private static StringData text(String text) {
        BinaryStringData data = BinaryStringData.fromString(text);
        data.ensureMaterialized();
        return data;
    }

    private Lookups() {}
}
