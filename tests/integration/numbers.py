"""Search for subscribers' numbers in what the tests of this folder leave: output, logs, reports, temporary files.

Every test sends CDRs, so their IMSIs, MSISDNs and IMEIs are planted numbers. They belong on topics and in files of
CDRs. Everything else is searched after the last test of each file, and the test fails if a number is found. What a
test itself reads from a process that it starts is not searched.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

_NUMBER = re.compile(
    rb"(?<![0-9A-Fa-f_.-])(?:"
    rb"(?:208|605|604|608)\d{12}"  # an IMSI of the four countries
    rb"|\+?(?:33[67]\d{8}|216[2459]\d{7}|212[67]\d{8}|2217\d{8})"  # a mobile number of theirs
    rb"|35\d{13}"  # an IMEI
    rb")(?![0-9A-Fa-f_-]|\.\d)"
)
_CDR_FILES = (".parquet", ".avro", ".csv", ".cdr")
_COPIES_OF_SOURCE = (".py", ".pyc", ".nbi", ".nbc")
_GIVEN = ("imsi.txt", "msisdn.txt")
"""Files in which tests give numbers to `forget`."""
_BESIDE_CDRS = {"partition.metadata", "received_at.txt"}
"""Files that lie beside the records of a partition of Kafka, or of a capture, whose pseudonyms look like numbers."""


def has_number(content: bytes) -> bool:
    """Return whether a subscriber's number is in bytes."""
    return _NUMBER.search(content) is not None


class NumberSearch:
    """A plugin of pytest that searches `places` and what the tests have printed.

    Args:
        places: Directories; what is in them at the beginning is left out.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places
        self._known = {path for place in places for path in _files_in(place)}
        self._printed: list[tuple[str, bytes]] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        """Search after the fixtures of the last test of a file have ended."""
        yield
        self._printed += [
            (f"{item.name}, {stream} at {when}", text.encode()) for when, stream, text in item._report_sections
        ]
        if nextitem is None or nextitem.path != item.path:
            found = sorted(self.found())
            # Unit tests of the same run may leave what they like.
            if item.get_closest_marker("integration") is not None:
                assert not found, "subscribers' numbers are in:\n" + "\n".join(found)

    def found(self) -> Iterator[str]:
        """Yield what holds a number and was not looked at before."""
        for name, content in self._printed:
            if has_number(content):
                yield name
        self._printed.clear()
        for place in self._places:
            for path in _files_in(place):
                if path not in self._known:
                    self._known.add(path)
                    with suppress(OSError):  # it has gone meanwhile
                        if has_number(path.read_bytes()) or has_number(os.fsencode(path.name)):
                            yield str(path)


def _files_in(place: Path) -> Iterator[Path]:
    """Yield all files below a directory but source and those of CDRs, of Kafka's partitions and of captures."""
    for folder, _, names in os.walk(place):
        if _BESIDE_CDRS.isdisjoint(names):
            searched = [
                name for name in names if not name.endswith(_CDR_FILES + _COPIES_OF_SOURCE) and name not in _GIVEN
            ]
            yield from (Path(folder, name) for name in searched)
