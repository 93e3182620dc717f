"""Peer: PyFlink. Flink SQL around one vectorised function in Python (pandas, Arrow); Kafka and Avro are Flink's own.

    python pyflink_job.py BOOTSTRAP PARALLELISM GROUP REFERENCE CHECKPOINTS JARS

It runs in an environment of its own (`build.ensure_pyflink`), and so imports nothing of this project.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyflink.common import Configuration
from pyflink.table import DataTypes, EnvironmentSettings, TableEnvironment
from pyflink.table.udf import udf

# Those of the peers in Java that PyFlink does not bring itself.
_JARS = (
    "flink-connector-kafka", "kafka-clients", "flink-connector-base", "flink-avro", "avro-", "jackson-core",
    "jackson-databind", "jackson-annotations", "commons-compress", "snappy-java", "lz4-java", "zstd-jni", "guava",
    "failureaccess",
)  # fmt: skip
_KINDS = {
    "reason": DataTypes.STRING(),
    **{name: DataTypes.STRING() for name in ("imsi", "msisdn", "imei", "cell_id", "rat")},
    **{name: DataTypes.BIGINT() for name in ("bytes_up", "bytes_down", "event_ms")},
    **{name: DataTypes.STRING() for name in ("mcc", "mnc", "segment", "plan", "event_date")},
    "event_hour": DataTypes.INT(),
    "is_roaming": DataTypes.BOOLEAN(),
    **{name: DataTypes.DOUBLE() for name in ("geo_lat", "geo_lon")},
}
_FIELDS = 8
_NUMBER = r"^(?:[0-9]{1,18}|[0-8][0-9]{18}|9[01][0-9]{17})$"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:?[0-9]{2})$"


class Work:
    """The work on a column of raw records; it loads the reference data when it is first called, in the worker."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._tables: Any = None

    def __call__(self, line: Any) -> Any:
        """Return a frame with the columns of `_KINDS`; `reason` is null for a row that is accepted."""
        cells, lat, lon, subscribers, segments, plans = self._loaded()
        rows = len(line)
        reason = np.full(rows, None, dtype=object)

        def refuse(is_good: Any, code: str) -> None:
            reason[~np.asarray(is_good) & (reason == None)] = code  # noqa: E711 - elementwise

        parts = pc.split_pattern(_texts(line), ";")
        is_whole = pc.equal(pc.list_value_length(parts), _FIELDS)
        refuse(is_whole, "malformed_payload")
        if not pc.all(is_whole).as_py():  # a row with another number of fields gets empty ones
            parts = pc.split_pattern(pc.if_else(is_whole, _texts(line), ";" * (_FIELDS - 1)), ";")
        flat = parts.flatten()
        imsi, msisdn, imei, cell, rat, up, down, when = (
            flat.take(pa.array(np.arange(field, _FIELDS * rows, _FIELDS))) for field in range(_FIELDS)
        )
        matches = pc.match_substring_regex
        refuse(matches(imsi, r"^[0-9]{14,15}$"), "invalid_imsi")
        refuse(matches(msisdn, r"^\+?[0-9]{10,15}$"), "invalid_msisdn")
        refuse(matches(imei, r"^(?:[0-9]{14,16})?$"), "invalid_imei")
        refuse(pc.is_in(rat, value_set=pa.array(["2G", "3G", "4G", "5G"])), "unknown_rat")
        is_up, is_down = matches(up, _NUMBER), matches(down, _NUMBER)
        refuse(is_up, "invalid_number")
        refuse(is_down, "invalid_number")
        millis, is_time = _millis(when)
        refuse(is_time, "invalid_timestamp")

        utc = millis.astype("datetime64[ms]").astype("datetime64[ns]")
        local = pd.DatetimeIndex(utc, tz="UTC").tz_convert("Europe/Paris").tz_localize(None)
        mcc = pc.utf8_slice_codeunits(imsi, 0, 3)
        place, subscriber = pc.index_in(cell, value_set=cells), pc.index_in(imsi, value_set=subscribers)
        with_plus = pc.binary_join_element_wise(pa.scalar("+"), msisdn, "")
        no_text = pa.scalar(None, pa.string())
        columns = {
            "imsi": imsi,
            "msisdn": pc.if_else(pc.starts_with(msisdn, "+"), msisdn, with_plus),
            "imei": pc.if_else(pc.equal(imei, ""), no_text, imei),
            "cell_id": cell,
            "rat": rat,
            "bytes_up": pc.if_else(is_up, up, "0").cast(pa.int64()),
            "bytes_down": pc.if_else(is_down, down, "0").cast(pa.int64()),
            "mcc": mcc,
            "mnc": pc.utf8_slice_codeunits(imsi, 3, 5),
            "segment": segments.take(subscriber),
            "plan": plans.take(subscriber),
            "is_roaming": pc.not_equal(mcc, "208"),
            "geo_lat": lat.take(place),
            "geo_lon": lon.take(place),
        }
        made = {
            "reason": reason,
            "event_ms": millis,
            "event_date": np.datetime_as_string(local.values.astype("datetime64[D]")).astype(object),
            "event_hour": local.hour.astype("int32"),
        }
        frame = {name: column.to_pandas() for name, column in columns.items()} | made
        return pd.DataFrame({name: frame[name] for name in _KINDS})

    def _loaded(self) -> Any:
        if self._tables is None:
            cells = pd.read_csv(Path(self._reference, "cells.csv"), header=None)
            known = pd.read_csv(Path(self._reference, "subscribers.csv"), header=None, dtype=str)
            columns = [cells[0], cells[1], cells[2], known[0], known[1], known[2]]
            self._tables = [pa.array(column) for column in columns]
        return self._tables


def _texts(line: Any) -> Any:
    try:
        return pa.array(line, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:  # a row that is no UTF-8
        return pa.array([each.decode("utf-8", "replace") for each in line], pa.string())


def _millis(when: Any) -> tuple[Any, Any]:
    """Return epoch milliseconds, and which rows have a valid time: the usual form at once, the others by pandas."""
    time = pc.strptime(when, format="%Y-%m-%dT%H:%M:%SZ", unit="ms", error_is_null=True)
    # strptime takes 30 February for 2 March: the day must be the one that was written.
    day = pc.if_else(pc.is_valid(time), pc.utf8_slice_codeunits(when, 8, 10), "0").cast(pa.int64())
    is_time = np.asarray(pc.fill_null(pc.equal(pc.day(time), day), False)).copy()
    millis = np.asarray(pc.fill_null(time.cast(pa.int64()), 0)).copy()
    other = np.flatnonzero(~is_time)
    if len(other):
        text = when.take(pa.array(other)).to_pandas()
        read = pd.to_datetime(text, utc=True, errors="coerce", format="ISO8601").dt.tz_localize(None)
        is_time[other] = is_good = (read.notna() & text.str.fullmatch(_TIME)).to_numpy()
        of_good = read.fillna(pd.Timestamp(0)).to_numpy().astype("datetime64[ms]").astype("int64")
        millis[other] = np.where(is_good, of_good, 0)
    return millis, is_time


def _settings(parallelism: str, checkpoints: str, jars: str) -> Configuration:
    wanted = sorted(path for path in Path(jars).iterdir() if path.name.startswith(_JARS))
    settings = Configuration()
    for name, value in {
        "parallelism.default": parallelism,
        "taskmanager.numberOfTaskSlots": parallelism,
        "pipeline.jars": ";".join(path.as_uri() for path in wanted),
        "pipeline.object-reuse": "true",
        "execution.checkpointing.interval": "10 s",
        "execution.checkpointing.mode": "AT_LEAST_ONCE",
        "execution.checkpointing.dir": Path(checkpoints).as_uri(),
        "table.local-time-zone": "Europe/Paris",
        "table.optimizer.reuse-optimize-block-with-digest-enabled": "true",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "python.fn-execution.arrow.batch.size": "10000",
        "python.fn-execution.bundle.size": "20000",
        "python.fn-execution.bundle.time": "200",
        "taskmanager.memory.managed.size": "256m",
    }.items():
        settings.set_string(name, value)
    return settings


def main() -> None:
    """Run the job until it is killed."""
    bootstrap, parallelism, group, reference, checkpoints, jars = sys.argv[1:]
    # Otherwise both subtasks share one Python process.
    os.environ["_python_worker_execution_mode"] = "process"  # noqa: SIM112 - Flink calls it so
    settings = _settings(parallelism, checkpoints, jars)
    mode = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(settings).build()
    tables = TableEnvironment.create(mode)
    row = DataTypes.ROW([DataTypes.FIELD(name, kind) for name, kind in _KINDS.items()])
    tables.create_temporary_function("work", udf(Work(reference), result_type=row, func_type="pandas"))
    tables.execute_sql(f"""CREATE TEMPORARY TABLE raw_fr (k BYTES, line BYTES) WITH (
        'connector' = 'kafka', 'topic' = 'cdr.raw.FR', 'properties.bootstrap.servers' = '{bootstrap}',
        'properties.group.id' = '{group}', 'scan.startup.mode' = 'group-offsets',
        'properties.auto.offset.reset' = 'earliest', 'scan.topic-partition-discovery.interval' = '0',
        'properties.max.poll.records' = '5000', 'properties.max.partition.fetch.bytes' = '4194304',
        'key.format' = 'raw', 'key.fields' = 'k', 'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY')""")
    sink = f"""'connector' = 'kafka', 'properties.bootstrap.servers' = '{bootstrap}', 'properties.acks' = 'all',
        'properties.compression.type' = 'snappy', 'properties.linger.ms' = '10', 'properties.batch.size' = '131072',
        'sink.delivery-guarantee' = 'at-least-once', 'key.format' = 'raw'"""
    tables.execute_sql(f"""CREATE TEMPORARY TABLE cdr_final (imsi STRING, msisdn STRING, imei STRING, cell_id STRING,
        rat STRING, bytes_up BIGINT, bytes_down BIGINT, event_time TIMESTAMP_LTZ(3), country STRING, event_type STRING,
        timezone STRING, mcc STRING, mnc STRING, segment STRING, plan STRING, event_date STRING, event_hour INT,
        is_roaming BOOLEAN, geo_lat DOUBLE, geo_lon DOUBLE) WITH (
        {sink}, 'topic' = 'cdr.final', 'key.fields' = 'imsi', 'value.format' = 'avro',
        'value.avro.timestamp_mapping.legacy' = 'false', 'value.fields-include' = 'ALL')""")
    tables.execute_sql(f"""CREATE TEMPORARY TABLE cdr_dlq (k BYTES, line BYTES, headers MAP<STRING, BYTES> METADATA)
        WITH ({sink}, 'topic' = 'cdr.dlq', 'key.fields' = 'k', 'value.format' = 'raw',
        'value.fields-include' = 'EXCEPT_KEY')""")
    tables.execute_sql("CREATE TEMPORARY VIEW worked AS SELECT k, line, work(line) AS w FROM raw_fr")
    inserts = tables.create_statement_set()
    inserts.add_insert_sql("""INSERT INTO cdr_final SELECT w.imsi, w.msisdn, w.imei, w.cell_id, w.rat, w.bytes_up,
        w.bytes_down, TO_TIMESTAMP_LTZ(w.event_ms, 3), 'FR', 'data', 'Europe/Paris', w.mcc, w.mnc, w.segment, w.plan,
        w.event_date, w.event_hour, w.is_roaming, w.geo_lat, w.geo_lon FROM worked WHERE w.reason IS NULL""")
    inserts.add_insert_sql("""INSERT INTO cdr_dlq SELECT k, line,
        CAST(MAP['orion.error.code', ENCODE(w.reason, 'UTF-8')] AS MAP<STRING, BYTES>)
        FROM worked WHERE w.reason IS NOT NULL""")
    inserts.execute().wait()


if __name__ == "__main__":
    main()
