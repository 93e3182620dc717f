package peers;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Properties;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.ProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.flink.util.OutputTag;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetResetStrategy;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Flink's DataStream API: a Kafka source, one function with a side output, two Kafka sinks. */
public final class DataStreamJob {
    private static final String RAW = "cdr.raw.FR";
    private static final OutputTag<Message> REJECTS = new OutputTag<Message>("rejects") {};

    public static void main(String[] args) throws Exception {
        Job job = Job.of(args);
        String handler = args[Job.ARGUMENTS];

        KafkaSource<Message> source =
                KafkaSource.<Message>builder()
                        .setBootstrapServers(job.bootstrapServers())
                        .setTopics(RAW)
                        .setGroupId(job.group())
                        .setStartingOffsets(
                                OffsetsInitializer.committedOffsets(OffsetResetStrategy.EARLIEST))
                        .setDeserializer(new Reader())
                        .setProperty("partition.discovery.interval.ms", "0")
                        .setProperty("max.poll.records", "5000")
                        .setProperty("max.partition.fetch.bytes", "4194304")
                        .build();
        StreamExecutionEnvironment environment = job.environment();
        SingleOutputStreamOperator<Message> finals =
                environment
                        .fromSource(source, WatermarkStrategy.noWatermarks(), RAW)
                        .process(new Work(job.reference(), handler));
        finals.sinkTo(sink(job, new Writer("cdr.final")));
        finals.getSideOutput(REJECTS).sinkTo(sink(job, new Writer("cdr.dlq")));
        environment.execute("datastream " + handler);
    }

    private static KafkaSink<Message> sink(Job job, Writer writer) {
        Properties producer = new Properties();
        producer.setProperty("acks", "all");
        producer.setProperty("compression.type", "snappy");
        producer.setProperty("linger.ms", "10");
        producer.setProperty("batch.size", "131072");
        producer.setProperty("buffer.memory", "67108864");
        return KafkaSink.<Message>builder()
                .setBootstrapServers(job.bootstrapServers())
                .setKafkaProducerConfig(producer)
                .setRecordSerializer(writer)
                .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
                .build();
    }

    /** A message; of a reject, the code too. Flink serializes it as a POJO where it must. */
    public static class Message {
        public byte[] key;
        public byte[] value;
        public String code;

        public Message() {}

        Message(byte[] key, byte[] value, String code) {
            this.key = key;
            this.value = value;
            this.code = code;
        }
    }

    private static final class Reader implements KafkaRecordDeserializationSchema<Message> {
        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Message> out) {
            out.collect(new Message(record.key(), record.value(), null));
        }

        @Override
        public TypeInformation<Message> getProducedType() {
            return TypeInformation.of(Message.class);
        }
    }

    private static final class Work extends ProcessFunction<Message, Message> {
        private final String reference;
        private final String name;
        private transient CdrHandler handler;

        Work(Path reference, String name) {
            this.reference = reference.toString();
            this.name = name;
        }

        @Override
        public void open(OpenContext context) throws Exception {
            Reference data = new Reference(Path.of(reference));
            handler =
                    switch (name) {
                        case "everyday" -> new EverydayHandler(data);
                        case "tuned" -> new TunedHandler(data);
                        default -> throw new IllegalArgumentException(name);
                    };
        }

        @Override
        public void processElement(Message raw, Context context, Collector<Message> out)
                throws Exception {
            String code = handler.handle(raw.value);
            if (code == null) {
                out.collect(new Message(handler.imsi(), handler.avro(), null));
            } else {
                context.output(REJECTS, new Message(raw.key, raw.value, code));
            }
        }
    }

    private static final class Writer implements KafkaRecordSerializationSchema<Message> {
        private final String topic;

        Writer(String topic) {
            this.topic = topic;
        }

        @Override
        public ProducerRecord<byte[], byte[]> serialize(
                Message message, KafkaSinkContext context, Long timestamp) {
            ProducerRecord<byte[], byte[]> record =
                    new ProducerRecord<>(topic, message.key, message.value);
            if (message.code != null) {
                record.headers()
                        .add("orion.error.code", message.code.getBytes(StandardCharsets.UTF_8));
            }
            return record;
        }
    }

    private DataStreamJob() {}
}
