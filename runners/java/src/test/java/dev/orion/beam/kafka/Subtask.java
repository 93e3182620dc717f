package dev.orion.beam.kafka;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.beam.sdk.io.UnboundedSource;
import org.apache.beam.sdk.io.UnboundedSource.UnboundedReader;
import org.apache.beam.sdk.options.PipelineOptions;
import org.apache.beam.sdk.options.PipelineOptionsFactory;
import org.apache.beam.sdk.util.CoderUtils;
import org.apache.beam.sdk.util.SerializableUtils;
import org.apache.flink.runtime.checkpoint.RoundRobinOperatorStateRepartitioner;
import org.apache.flink.runtime.state.OperatorStateHandle;
import org.apache.flink.runtime.state.OperatorStateHandle.Mode;
import org.apache.flink.runtime.state.OperatorStateHandle.StateMetaInfo;
import org.apache.flink.runtime.state.OperatorStreamStateHandle;
import org.apache.flink.runtime.state.memory.ByteStreamStateHandle;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** A source's subtask, which does with splits and marks what Beam's UnboundedSourceWrapper does in Flink. */
final class Subtask implements AutoCloseable {
  /** A split and its mark, as they are in a checkpoint. */
  record State(byte[] split, byte[] mark) {}

  private final List<UnboundedSource<byte[], KafkaOffsets>> splits = new ArrayList<>();
  private final List<UnboundedReader<byte[]>> readers = new ArrayList<>();
  private boolean isStarted;
  private int turn;

  static Subtask first(BatchedKafkaSource source) throws Exception {
    return of(source, 0, 1, options(""));
  }

  /** Opens subtask {@code index} of {@code count}. */
  static Subtask of(BatchedKafkaSource source, int index, int count, PipelineOptions options) throws Exception {
    Subtask subtask = new Subtask();
    List<UnboundedSource<byte[], KafkaOffsets>> all = source.split(count, options);
    for (int i = index; i < all.size(); i += count) {
      subtask.open(SerializableUtils.clone(all.get(i)), options, null);
    }
    return subtask;
  }

  static Subtask restored(List<State> states, PipelineOptions options) throws Exception {
    Subtask subtask = new Subtask();
    for (State state : states) {
      @SuppressWarnings("unchecked")
      UnboundedSource<byte[], KafkaOffsets> split =
          (UnboundedSource<byte[], KafkaOffsets>) SerializableUtils.deserializeFromByteArray(state.split(), "split");
      subtask.open(split, options, CoderUtils.decodeFromByteArray(KafkaOffsets.CODER, state.mark()));
    }
    return subtask;
  }

  /** Shares out the states of all subtasks among another number of subtasks, as Flink does. */
  static List<List<State>> shared(List<List<State>> before, int subtasks) {
    List<List<OperatorStateHandle>> handles = new ArrayList<>();
    for (int i = 0; i < before.size(); i++) {
      long[] places = new long[before.get(i).size()];
      for (int place = 0; place < places.length; place++) {
        places[place] = place;
      }
      StateMetaInfo info = new StateMetaInfo(places, Mode.SPLIT_DISTRIBUTE);
      handles.add(
          List.of(
              new OperatorStreamStateHandle(
                  Map.of("state", info), new ByteStreamStateHandle(String.valueOf(i), new byte[0]))));
    }
    List<List<State>> after = new ArrayList<>();
    for (List<OperatorStateHandle> parts :
        RoundRobinOperatorStateRepartitioner.INSTANCE.repartitionState(handles, before.size(), subtasks)) {
      List<State> states = new ArrayList<>();
      for (OperatorStateHandle part : parts) {
        ByteStreamStateHandle from = (ByteStreamStateHandle) part.getDelegateStateHandle();
        for (long place : part.getStateNameToPartitionOffsets().get("state").getOffsets()) {
          states.add(before.get(Integer.parseInt(from.getHandleName())).get((int) place));
        }
      }
      after.add(states);
    }
    return after;
  }

  static PipelineOptions options(String lease) {
    LeaseOptions options = PipelineOptionsFactory.create().as(LeaseOptions.class);
    options.setOrionLease(lease);
    return options;
  }

  private void open(UnboundedSource<byte[], KafkaOffsets> split, PipelineOptions options, KafkaOffsets mark)
      throws Exception {
    splits.add(split);
    readers.add(split.createReader(options, mark));
  }

  /** Returns the next frame, or null if no reader has one after its turn. */
  byte[] poll() throws Exception {
    for (int i = 0; i < readers.size(); i++) {
      UnboundedReader<byte[]> reader = readers.get(turn);
      boolean isFirstRound = !isStarted;
      turn = (turn + 1) % readers.size();
      isStarted |= turn == 0;
      if (isFirstRound ? reader.start() : reader.advance()) {
        return reader.getCurrent();
      }
    }
    return null;
  }

  /** Returns frames until they hold at least {@code records} records. */
  List<byte[]> frames(int records) throws Exception {
    List<byte[]> frames = new ArrayList<>();
    for (int read = 0; read < records; ) {
      byte[] frame = poll();
      if (frame != null) {
        frames.add(frame);
        read += FrameReader.records(frame).size();
      }
    }
    return frames;
  }

  List<ConsumerRecord<byte[], byte[]>> records(int count) throws Exception {
    List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
    for (byte[] frame : frames(count)) {
      records.addAll(FrameReader.records(frame));
    }
    return records;
  }

  UnboundedReader<byte[]> reader(int index) {
    return readers.get(index);
  }

  List<KafkaOffsets> marks() {
    return readers.stream().map(reader -> (KafkaOffsets) reader.getCheckpointMark()).toList();
  }

  List<State> snapshot() throws Exception {
    List<State> states = new ArrayList<>();
    for (int i = 0; i < splits.size(); i++) {
      KafkaOffsets mark = (KafkaOffsets) readers.get(i).getCheckpointMark();
      states.add(
          new State(
              SerializableUtils.serializeToByteArray(splits.get(i)),
              CoderUtils.encodeToByteArray(KafkaOffsets.CODER, mark)));
    }
    return states;
  }

  @Override
  public void close() throws Exception {
    for (UnboundedReader<byte[]> reader : readers) {
      reader.close();
    }
  }
}
