"""`orion-beam forget`: where subscribers still lie on the topics, and until when."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from orion_beam.cli.shared.console import console_of, progress_of
from orion_beam.cli.shared.late import late_imports
from orion_beam.defaults import Role
from orion_beam.errors import UserError

with late_imports():
    from orion_beam.access.rights import require_rights
    from orion_beam.access.roles import Resource
    from orion_beam.countries import all_profiles
    from orion_beam.inspect.find_subscribers import (
        FoundRecords,
        NumberPlace,
        SubscriberNumber,
        find_subscribers,
        msisdn_of,
    )
    from orion_beam.kafka.offset_ranges import READERS_GROUP, offset_ranges
    from orion_beam.topics.catalogue import FOREVER_MS, RETENTION
    from orion_beam.topics.cluster_state import FoundTopic, describe_cluster
    from orion_beam.topics.names import topics_with_numbers

_RULES = {"imsi": (r"[0-9]{14,15}", "an IMSI has 14 or 15 digits"),
          "msisdn": (r"(?:\+|00)?([1-9][0-9]{9,14})", "an MSISDN has 10 to 15 digits, calling code first")}  # fmt: skip


def forget(
    bootstrap_servers: Annotated[str, typer.Option(help="Kafka brokers, host:port,…")],
    imsi_file: Annotated[Path | None, typer.Option(help="File of IMSIs, one a line.")] = None,
    msisdn_file: Annotated[
        Path | None, typer.Option(help="File of MSISDNs with their calling codes, one a line: +33612345678")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List where subscribers still lie, by topic and partition, and when retention removes their last record there.

    It reads the raw topics, the topics of stages, cdr.final and cdr.dlq, and changes nothing: retention deletes, and
    `until` says when. Output names a subscriber by the line of the file, never by the number. Exit code 0 when nothing
    is found, 1 when something is.

    Example: orion-beam forget --bootstrap-servers broker:9092 --imsi-file requests.txt
    """
    numbers = [*_numbers(imsi_file, "imsi"), *_numbers(msisdn_file, "msisdn")]
    if not numbers:
        raise UserError("which subscribers? give --imsi-file or --msisdn-file, with a number on each line")
    names = topics_with_numbers()
    rights = {Resource.WITH_NUMBERS: names, Resource.READERS: [READERS_GROUP]}
    require_rights(bootstrap_servers, Role.PRIVACY, rights)
    topics = describe_cluster(bootstrap_servers, names, with_brokers=False).topics
    ranges = offset_ranges(bootstrap_servers, topics)
    with progress_of("searching", sum(held.offsets for held in ranges.values())) as advance:
        found = find_subscribers(bootstrap_servers, ranges, numbers, advance)
    if as_json:
        typer.echo(json.dumps(_summary(numbers, topics, found), indent=2))
    else:
        _print(numbers, topics, found)
    if found:
        raise typer.Exit(1)


def _numbers(path: Path | None, kind: str) -> Iterator["SubscriberNumber"]:
    """Yield the numbers of a file. An error names the line, and not what it holds."""
    if path is None:
        return
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"--{kind}-file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"--{kind}-file {path}: is no UTF-8 text") from None
    pattern, rule = _RULES[kind]
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        match = re.fullmatch(pattern, text.strip())
        if match is None:
            raise UserError(f"--{kind}-file {path}:{line}: {rule}")
        if kind == "imsi":
            yield SubscriberNumber(kind, line, match[0])
        else:
            yield msisdn_of(line, match[1], all_profiles().values())


def _until(topic: "FoundTopic", newest: datetime | None) -> datetime | None:
    """Return when retention may delete the newest record; None if it never does, or if nobody knows."""
    retention_ms = _retention_ms(topic)
    if newest is None or retention_ms is None:
        return None
    try:
        return newest + timedelta(milliseconds=retention_ms)
    except OverflowError:
        # The retention may be 2^63 - 1, and a record may carry any time.
        return None


def _retention_ms(topic: "FoundTopic") -> int | None:
    retention_ms = int(topic.settings[RETENTION])
    deletes = "delete" in topic.settings["cleanup.policy"] and retention_ms != FOREVER_MS
    return retention_ms if deletes else None


def _summary(
    numbers: list["SubscriberNumber"], topics: Mapping[str, "FoundTopic"], found: Mapping["NumberPlace", "FoundRecords"]
) -> dict[str, Any]:
    return {
        "searched": {name: {"retention_ms": _retention_ms(topic)} for name, topic in topics.items()},
        "subscribers": [
            {
                "file": number.file,
                "line": number.line,
                "records": sum(those.records for place, those in found.items() if place.number == number),
                "places": [
                    {
                        "topic": place.partition.topic,
                        "partition": place.partition.partition,
                        "records": those.records,
                        "first_offset": those.first,
                        "last_offset": those.last,
                        "newest": those.newest and those.newest.isoformat(),
                        "until": (until := _until(topics[place.partition.topic], those.newest)) and until.isoformat(),
                    }
                    for place, those in sorted(found.items(), key=lambda each: each[0].partition)
                    if place.number == number
                ],
            }
            for number in numbers
        ],
    }


def _print(
    numbers: list["SubscriberNumber"], topics: Mapping[str, "FoundTopic"], found: Mapping["NumberPlace", "FoundRecords"]
) -> None:
    table = Table("file", "line", "topic", "partition", "records", "newest", "until")
    for number in numbers:
        places = sorted((place.partition, those) for place, those in found.items() if place.number == number)
        for (topic, partition), those in places:
            until = _until(topics[topic], those.newest)
            table.add_row(number.file, str(number.line), topic, str(partition), f"{those.records:,}",
                          _minute(those.newest, "unknown"), _minute(until, "no end"))  # fmt: skip
    if found:
        console_of().print(table)
    clear = sum(all(place.number != number for place in found) for number in numbers)
    typer.echo(f"{len(numbers) - clear} of {len(numbers)} subscribers have records on {len(topics)} topics.")


def _minute(time: datetime | None, absent: str) -> str:
    return absent if time is None else f"{time:%Y-%m-%d %H:%MZ}"
