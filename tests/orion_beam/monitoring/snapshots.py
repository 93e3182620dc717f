"""A snapshot with something of everything, and a monitor that has seen it."""

from pathlib import Path

from orion_beam.countries import profiles_of
from orion_beam.kafka.offset_ranges import OffsetRange, SourcePartition
from orion_beam.monitoring.flink import JobStatus
from orion_beam.monitoring.letters import FOREIGN, LetterKind
from orion_beam.monitoring.monitor import DiskUse, Monitor, MonitorConfig, Snapshot
from orion_beam.monitoring.progress import Progress
from orion_beam.monitoring.reading import PartitionReading, Reading

AT_S = 1_800_000_000.0
TOPICS = {"cdr.raw.FR": "FR", "cdr.raw.TN": "TN"}
FLINK = "http://127.0.0.1:8081"


def snapshot(at_s: float = AT_S) -> Snapshot:
    """A cluster of which FR lags by 60 s and 6 records, and TN does not."""
    part = PartitionReading(OffsetRange(0, 10), 4, round((at_s - 60) * 1000))
    partitions = {SourcePartition("cdr.raw.FR", 0): part, SourcePartition("cdr.raw.TN", 0): part._replace(committed=10)}
    partitions[SourcePartition("cdr.raw.TN", 0)] = PartitionReading(OffsetRange(0, 10), 10)
    retention = {topic: 3_600_000 for topic in TOPICS}
    reading = Reading(at_s, 3, 2, 1, partitions, retention, {"cdr.final": 14}, {topic: 1 for topic in TOPICS})
    return Snapshot(
        at_s=at_s,
        is_up=True,
        reading=reading,
        countries=Progress(TOPICS).add(reading),
        letters={LetterKind("FR", "decode", "malformed_payload"): 7, FOREIGN: 1},
        written={"cdr.final": 5},
        reject_rates={("FR", "malformed_payload"): 0.5},
        jobs={
            FLINK: (JobStatus("cdr", "0a", "RUNNING", 5, 1, 0.25, at_s - 3, 2, 0, {"cdr.raw.FR": 0.9}, 1.0),),
            "http://127.0.0.1:1": None,
        },
        sink_ratio=0.75,
        pressed={"FR": "sink"},
        disks={"/data": DiskUse(100, 25)},
    )


def monitor(*snapshots: Snapshot) -> Monitor:
    """A monitor that is not started, and has seen these."""
    config = MonitorConfig(
        "127.0.0.1:1", "orion-beam", profiles_of(["FR", "TN"]), flink_urls=(FLINK,), disks=(Path("/data"),)
    )
    return Monitor(config, snapshots)
