"""Show which share of the product's lines and branches the tests ran, by room: the end of `make coverage`.

python -m scripts.coverage_rooms [--least PERCENT]    with --least, exit code 1 if the whole is below it

A room is a folder with the modules directly in it. A line or a branch counts once, however often and by however many
processes it ran. Functions that numba compiles are left out: nobody can trace machine code.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from coverage import Coverage


class Room(NamedTuple):
    """Counts of one room, or of several together.

    Attributes:
        modules: how many there are.
        all: lines and branches.
        ran: those that the tests ran.
    """

    modules: int
    all: int
    ran: int

    @property
    def percent(self) -> float:
        """The share that ran; 100 where there is nothing to run."""
        return 100 * self.ran / self.all if self.all else 100.0


def rooms_of(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Room]:
    """Return the rooms by name, from the `files` of coverage's JSON report."""
    rooms: dict[str, Room] = {}
    for path, file in sorted(files.items()):
        of, name = file["summary"], str(PurePath(path).parent)
        modules, every, ran = rooms.get(name, Room(0, 0, 0))
        rooms[name] = Room(
            modules + 1,
            every + of["num_statements"] + of["num_branches"],
            ran + of["covered_lines"] + of["covered_branches"],
        )
    return rooms


def table(rooms: Mapping[str, Room]) -> Iterator[str]:
    """Yield the lines of the table; the last one is the whole."""
    whole = Room(*(sum(column) for column in zip(*rooms.values(), strict=True)))
    width = max(map(len, rooms))
    yield f"{'room':<{width}}  modules  lines and branches  not run  covered"
    for name, room in (*sorted(rooms.items()), ("all", whole)):
        yield f"{name:<{width}}  {room.modules:>7}  {room.all:>18,}  {room.all - room.ran:>7,}  {room.percent:>6.1f}%"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--least", type=float, default=0.0, metavar="PERCENT", help="exit code 1 below it")
    least = parser.parse_args().least
    measured = Coverage()
    measured.combine(keep=True)
    measured.save()
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.json")
        percent = measured.json_report(outfile=str(report))
        print("\n".join(table(rooms_of(json.loads(report.read_bytes())["files"]))))
    if percent < least:
        sys.exit(f"make coverage: the tests ran {percent:.1f} % of lines and branches, which is less than {least:g} %")


if __name__ == "__main__":
    main()
