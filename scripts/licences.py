"""Check the licences of all that the product runs with: `make licences`.

python -m scripts.licences              prints components whose licence is not accepted; exit code 1 if there are any
python -m scripts.licences --refresh    first writes the licences of the jars, from the POMs in Maven's local repository

Every licence of a component must be permissive. One that is not, or that this module does not know, fails the check
until somebody has judged the component and written the outcome into `JUDGED`.
"""

import argparse
import os
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from orion_beam.runners.jars.artifacts import read_artifacts
from scripts.components import JAVA, JAVA_LICENCES, MAVEN, Component, runtime_components

_PERMISSIVE = re.compile(
    r"apache|\bmit\b|\bmit-cmu\b|\bbsd\b|bsd-|bsd licence|isc\b|python software foundation|\bpsf|zlib|unlicense|0bsd"
    r"|public domain|cc0|eclipse distribution|\bedl\b|go license|unicode|bsl-1\.0|boost|hpnd|zope public|zpl",
    re.IGNORECASE,
)
_NOT = re.compile(
    r"gpl|gnu|sspl|server side public|business source|\bbusl|commons clause|elastic|eupl|osl-|eclipse public|\bepl"
    r"|mozilla|\bmpl|cddl|common development and distribution",
    re.IGNORECASE,
)

_DEVELOPMENT_KAFKA = "EPL-2.0, which concerns its own files: unchanged, in the Kafka for development only"
_FILES_ONLY = "CDDL, which concerns its own files: unchanged"
JUDGED: Mapping[str, str] = {
    "certifi": "MPL-2.0, which concerns its own file, a list of certificates: unchanged",
    "jakarta.annotation:": _DEVELOPMENT_KAFKA,
    "jakarta.servlet:": _DEVELOPMENT_KAFKA,
    "jakarta.ws.rs:": _DEVELOPMENT_KAFKA,
    "javax.activation:": _FILES_ONLY,
    "javax.annotation:": _FILES_ONLY,
    "javax.xml.bind:": _FILES_ONLY,
    "org.checkerframework:checker-compat-qual": "annotations, which are under MIT",
    "org.eclipse.jetty": "Apache-2.0, by choice",
    "org.glassfish.": _DEVELOPMENT_KAFKA,
    "org.javassist:": "Apache-2.0, by choice",
    "polars-hash": "MIT, says its repository; its metadata say nothing",
    "pyruhvro": "MIT, says its repository; its metadata say nothing",
}
"""The licence under which a component is taken, by the beginning of its name, and why that is fine."""


def problems_of(components: Iterable[Component]) -> Iterator[str]:
    """Yield a line for each component that has no acceptable licence."""
    for component in components:
        if component.name.startswith(tuple(JUDGED)):
            continue
        if not component.licences:
            fix = " (python -m scripts.licences --refresh)" if component.kind == MAVEN else ""
            yield f"{component}: its licence is unknown{fix}"
        elif not all(map(is_permissive, component.licences)):
            yield f"{component}: {', '.join(component.licences)}: copyleft or unknown; judge it in scripts/licences.py"


def is_permissive(licence: str) -> bool:
    """Return whether a licence lets everybody use the component in closed products, too."""
    return bool(_PERMISSIVE.search(licence)) and not _NOT.search(licence)


def refresh() -> None:
    """Write the licences of all jars.

    Raises:
        SystemExit: A POM is missing, or names no licence.
    """
    coordinates = sorted({":".join(each.coordinates.split(":")[:3]) for each in read_artifacts(JAVA)})
    lines = [f"{each} {' | '.join(pom_licences(maven_repository(), each))}" for each in coordinates]
    heading = "# Written by `python -m scripts.licences --refresh`, from the POMs of the jars and of their parents"
    JAVA_LICENCES.write_text("\n".join([heading, *lines, ""]), encoding="utf-8")


def maven_repository() -> Path:
    """Return Maven's local repository."""
    return Path(os.environ.get("MAVEN_REPOSITORY", Path.home() / ".m2" / "repository"))


def pom_licences(repository: Path, coordinates: str) -> list[str]:
    """Return the licences that the POM of GROUP:ARTIFACT:VERSION names, or else its nearest parent that names some.

    Raises:
        SystemExit: A POM is missing, or names no licence.
    """
    group, name, version = coordinates.split(":")
    pom = repository / group.replace(".", "/") / name / version / f"{name}-{version}.pom"
    if not pom.exists():
        raise SystemExit(f"{coordinates}: {pom.name} is not in Maven's local repository: run `make lock-java` first")
    root = ET.parse(pom).getroot()
    found = [_text(each, "name") or _text(each, "url") for each in root.findall("{*}licenses/{*}license")]
    if found:
        return [" ".join(text.split()) for text in found]
    parent = root.find("{*}parent")
    if parent is None:
        raise SystemExit(f"{coordinates}: neither its POM nor a parent names a licence")
    return pom_licences(repository, ":".join(_text(parent, part) for part in ("groupId", "artifactId", "version")))


def _text(element: ET.Element, name: str) -> str:
    return (element.findtext(f"{{*}}{name}") or "").strip()


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--refresh", action="store_true", help="write the licences of the jars first, from Maven's POMs"
    )
    if parser.parse_args().refresh:
        refresh()
    components = runtime_components()
    problems = list(problems_of(components))
    print("\n".join(problems) or f"{len(components)} components, no copyleft")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
