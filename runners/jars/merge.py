"""Merge of jars into the one jar of a job on a cluster."""

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

MANIFEST = "META-INF/MANIFEST.MF"
_SERVICES = "META-INF/services/"

_NOT_NEEDED = re.compile(
    # The cluster has Flink and a logger.
    r"flink-|slf4j-|async-profiler-"
    # Beam's converters from and to other schema languages, and what reads the configuration of a service mesh: no
    # part of a job calls these.
    r"|icu4j-|kotlin|wire-|apicurio-|okhttp-|okio-|swiftpoet-|javapoet-|kaml-|grpc-xds-|grpc-rls-"
)
"""Beginnings of the names of jars that a job on a cluster does not need."""

_LEFT_OUT = re.compile(
    # Signatures of jars that are no longer what was signed, and what only Maven or a module path reads.
    r"META-INF/[^/]*\.(SF|DSA|RSA)|META-INF/(versions|maven)/.*|META-INF/INDEX\.LIST|(.*/)?module-info\.class"
)


def needed_on_cluster(jars: Iterable[Path]) -> list[Path]:
    """Return the jars that a job on a cluster brings along, which has Flink and a logger of its own."""
    return sorted(jar for jar in jars if not _NOT_NEEDED.match(jar.name))


def merge_jars(jars: Iterable[Path], target: Path, manifest: str) -> None:
    """Write the entries of jars into one jar.

    Files that register services are joined. Of other entries with the same name, the first one is kept.

    Args:
        jars: The jars, in the order of a class path.
        target: Path of the jar to write.
        manifest: Text of its manifest.
    """
    services: dict[str, dict[str, None]] = {}
    names = {MANIFEST}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as merged:
        # A reader of a jar expects its manifest in front.
        merged.writestr(MANIFEST, manifest)
        for jar in jars:
            with zipfile.ZipFile(jar) as source:
                for entry in source.infolist():
                    name = entry.filename
                    if name.endswith("/") or _LEFT_OUT.fullmatch(name):
                        continue
                    if name.startswith(_SERVICES):
                        lines = source.read(entry).decode().splitlines()
                        services.setdefault(name, {}).update(dict.fromkeys(line for line in lines if line.strip()))
                    elif name not in names:
                        names.add(name)
                        merged.writestr(name, source.read(entry))
        for name, lines_of_service in services.items():
            merged.writestr(name, "\n".join(lines_of_service) + "\n")
