"""Compare what the product runs with, to known advisories, without a network: `make advisories DB=…`.

python -m scripts.advisories DATABASE…    files of OSV (https://osv.dev): all.zip of an ecosystem, or advisories as JSON

OSV offers its database of an ecosystem as one file: PyPI/all.zip and Maven/all.zip. Exit code 1 if a component is
affected, 2 if no database has advisories of its ecosystem.
"""

import json
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name
from packaging.version import Version

from scripts.components import MAVEN, PYPI, Component, runtime_components

_ECOSYSTEMS = {PYPI: "PyPI", MAVEN: "Maven"}
_FINAL, _UNKNOWN, _NUMBER = 5, 7, 8
_QUALIFIERS = {"alpha": 0, "a": 0, "beta": 1, "b": 1, "milestone": 2, "m": 2, "rc": 3, "cr": 3, "snapshot": 4}
_QUALIFIERS |= {"": _FINAL, "final": _FINAL, "ga": _FINAL, "release": _FINAL, "sp": 6}

Advisory = Mapping[str, Any]


class Affected(NamedTuple):
    """An advisory that concerns a component."""

    component: Component
    id: str
    summary: str

    def __str__(self) -> str:
        """Return a line for people."""
        return f"{self.component}: {self.id}: {self.summary}"


def read_advisories(path: Path) -> Iterator[Advisory]:
    """Yield the advisories of a file: a zip of JSON files, one JSON object, or a list of objects."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".json"):
                    yield json.loads(archive.read(name))
    else:
        found = json.loads(path.read_bytes())
        yield from found if isinstance(found, list) else [found]


def affected(components: Iterable[Component], advisories: Iterable[Advisory]) -> list[Affected]:
    """Return which advisories concern which components; withdrawn advisories concern none."""
    by_name = {(_ECOSYSTEMS[each.kind], each.name): each for each in components}
    found = []
    for advisory in advisories:
        if "withdrawn" in advisory:
            continue
        for entry in advisory.get("affected", ()):
            package = entry.get("package", {})
            ecosystem = package.get("ecosystem", "")
            name = canonicalize_name(package["name"]) if ecosystem == "PyPI" else package.get("name", "")
            component = by_name.get((ecosystem, name))
            if component is not None and _concerns(entry, component):
                found.append(Affected(component, advisory["id"], advisory.get("summary", "no summary")))
    return sorted(set(found), key=lambda each: (each.component.name, each.id))


def _concerns(entry: Mapping[str, Any], component: Component) -> bool:
    if component.version in entry.get("versions", ()):
        return True
    return any(
        _is_within(each.get("events", ()), component) for each in entry.get("ranges", ()) if each.get("type") != "GIT"
    )


def _is_within(events: Sequence[Mapping[str, str]], component: Component) -> bool:
    """Return whether a version is in one of the ranges that events open and close, in any order."""
    version = _order(component.kind, component.version)
    is_in = False
    ordered = [(_order(component.kind, text), kind) for event in events for kind, text in event.items()]
    for at, kind in sorted(ordered):
        if kind == "introduced" and at <= version:
            is_in = True
        elif (kind == "fixed" and at <= version) or (kind == "last_affected" and at < version):
            is_in = False
    return is_in


def _order(kind: str, version: str) -> Any:
    """Return what versions of an ecosystem are compared by; 0 is before all."""
    if kind == PYPI:
        return Version(version)
    return maven_order(version)


def maven_order(version: str) -> list[tuple[int, int, str]]:
    """Return what Maven versions are compared by: numbers as numbers, known qualifiers (alpha, rc, …) before a release.

    This is Maven's ComparableVersion without the difference that it makes between `.` and `-`.
    """
    parts: list[tuple[int, int, str]] = [(_FINAL, 0, "")]
    for token in reversed(re.findall(r"[0-9]+|[a-z]+", version.lower())):
        if token.isdigit():
            part = (_NUMBER, int(token), "")
        else:
            part = (_QUALIFIERS.get(token, _UNKNOWN), 0, "" if token in _QUALIFIERS else token)
        # 1, 1.0 and 1.0.Final are the same, and so are 1-rc1 and 1.0-rc1.
        if part[1] or part[0] not in (_NUMBER, _FINAL) or (part[0] == _NUMBER and parts[0][0] == _NUMBER):
            parts.insert(0, part)
    return parts


def main(paths: Sequence[str]) -> int:
    """Run the command."""
    if not paths:
        print(
            "make advisories: name the files, DB='PyPI.zip Maven.zip': scripts/advisories.py says which",
            file=sys.stderr,
        )
        return 2
    components = runtime_components()
    try:
        advisories = [each for path in paths for each in read_advisories(Path(path))]
    except (OSError, ValueError) as error:
        print(f"make advisories: no database of OSV: {error}", file=sys.stderr)
        return 2
    known = {entry.get("package", {}).get("ecosystem") for each in advisories for entry in each.get("affected", ())}
    if missing := set(_ECOSYSTEMS.values()) - known:
        print(f"make advisories: the files have no advisory of {', '.join(sorted(missing))}", file=sys.stderr)
        return 2
    found = affected(components, advisories)
    print(
        "\n".join(map(str, found)) or f"{len(components)} components, none of {len(advisories)} advisories concerns one"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
