"""Look up the newest versions that fit together, write them into setup.py, and lock all packages: `make lock`.

python -m scripts.lock            rewrites the pins of setup.py and the locks, and prints what changed
python -m scripts.lock --check    prints what would change, and changes nothing
python -m scripts.lock --keep     keeps setup.py, and rewrites the locks after a change of it

The locks are requirements/runtime.lock (what the product runs with), dev.lock (with tests and tools, which `make setup`
installs) and fuzz.lock (for `make fuzz` alone): every package, also those that packages need, in one version and with
the SHA-256 of its files. requirements/pyflink.lock is not among them: it belongs to the version of Flink that
`make bench` compares with.

pip's own resolver finds the versions: those that work with one another and with the packages in `HELD`, which stay as
they are. Exit code 2: pip is missing, or it found no such versions.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HELD = {
    "apache-beam": "one version with Beam's jars in runners/java/pom.xml, see docs/decisions/0002",
}
"""Packages that `make lock` leaves at their version, and why. Move such a package by hand, with what it belongs to.

Others stay behind their newest version because a package needs an older one (apache-beam: numpy and pyarrow). These are
in no list: pip knows them, and `make lock` prints them.
"""

ROOT = Path(__file__).parents[1]
SETUP = ROOT / "setup.py"
LOCKS = {
    "runtime": ("setup.py",),
    "dev": ("setup.py", "--extra", "dev", "--constraint", "requirements/runtime.lock"),
    "fuzz": ("requirements/fuzz.in",),
}
"""Locks, and what pip-tools is told for each, in the order in which they are written."""

_HEADING = "# Written by `make lock`. pip takes these files only, and from whatever index this machine has.\n"
_PIN = re.compile(r'"(?P<name>[A-Za-z0-9._-]+)(?P<extras>\[[^\]"]*\])?==(?P<version>[^"]+)"')
_UPPER_BOUNDS = ("<", "<=", "==", "===", "~=")


def pins_of(text: str) -> dict[str, str]:
    """Return the versions that the text of a setup.py pins, by canonical package name."""
    return {canonicalize_name(pin["name"]): pin["version"] for pin in _PIN.finditer(text)}


def requirements_of(text: str) -> list[str]:
    """Return what pip is asked for: each pin without its version, unless the package is held."""
    return [
        pin[0].strip('"') if canonicalize_name(pin["name"]) in HELD else pin["name"] + (pin["extras"] or "")
        for pin in _PIN.finditer(text)
    ]


def with_versions(text: str, versions: Mapping[str, str]) -> str:
    """Return the text of a setup.py with these versions, by canonical package name, in its pins."""

    def renewed(pin: re.Match[str]) -> str:
        return f'"{pin["name"]}{pin["extras"] or ""}=={versions[canonicalize_name(pin["name"])]}"'

    return _PIN.sub(renewed, text)


def versions_of(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions in a report of `pip install --report`, by canonical package name."""
    packages = [each["metadata"] for each in report["install"]]
    return {canonicalize_name(package["name"]): package["version"] for package in packages}


def upper_bounds(report: Mapping[str, Any], names: Mapping[str, object]) -> Iterator[str]:
    """Yield a line for each package that keeps one of `names` from any newer version."""
    for package in (each["metadata"] for each in report["install"]):
        for text in package.get("requires_dist", ()):
            needed = Requirement(text)
            bounds = [str(each) for each in needed.specifier if each.operator in _UPPER_BOUNDS]
            is_for_us = needed.marker is None or needed.marker.evaluate({"extra": ""})
            if canonicalize_name(needed.name) in names and bounds and is_for_us:
                yield f"{needed.name}: {package['name']} {package['version']} needs {','.join(sorted(bounds))}"


def _resolved(requirements: list[str]) -> dict[str, Any]:
    """Return pip's report of what it would install for these requirements in an empty environment."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.json")
        pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--retries", "1"]
        done = subprocess.run(
            [*pip, "--report", str(report), *requirements], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            reasons = [line for line in done.stderr.splitlines() if line.strip()] or ["pip said nothing"]
            errors = [line for line in reasons if line.startswith("ERROR")] or reasons
            print(
                f"make lock: pip finds no versions ({errors[-1].removeprefix('ERROR: ')}): "
                "check pip, the network and PIP_INDEX_URL",
                file=sys.stderr,
            )
            raise SystemExit(2)
        found: dict[str, Any] = json.loads(report.read_bytes())
        return found


def write_locks(*options: str) -> None:
    """Write the locks for the pins of setup.py.

    Args:
        *options: More options of pip-tools.

    Raises:
        SystemExit: pip-tools found no such versions, or a file's digest is nowhere.
    """
    compile_ = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe"]
    # No address of this machine's index gets into a lock.
    compile_ += [
        "--no-header",
        "--no-annotate",
        "--no-emit-index-url",
        "--no-emit-trusted-host",
        "--no-emit-find-links",
    ]
    for name, own in LOCKS.items():
        if name == "fuzz" and (sys.platform, platform.machine()) != ("linux", "x86_64"):
            print("requirements/fuzz.lock stays as it is: atheris exists for Linux on x86-64 only", file=sys.stderr)
            continue
        path = ROOT / "requirements" / f"{name}.lock"
        output = str(path.relative_to(ROOT))
        done = subprocess.run([*compile_, "--strip-extras", *options, *own, "--output-file", output], cwd=ROOT)
        if done.returncode:
            print(f"make lock: pip-tools could not write {output}", file=sys.stderr)
            raise SystemExit(2)
        path.write_text(_HEADING + path.read_text(encoding="utf-8"), encoding="utf-8")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="print what would change, and change nothing")
    parser.add_argument("--keep", action="store_true", help="keep setup.py, and rewrite the locks")
    given = parser.parse_args()
    if given.keep:
        write_locks()
        return
    is_check = given.check
    text = SETUP.read_text(encoding="utf-8")
    print("pip looks up versions, which takes some minutes", file=sys.stderr)
    report = _resolved(requirements_of(text))
    before, found = pins_of(text), versions_of(report)
    versions = {name: found[name] for name in before}
    changed = [f"{name}: {before[name]} -> {versions[name]}" for name in before if before[name] != versions[name]]
    print("\n".join(changed) or "every pin is the newest version that fits the others")
    for name, reason in HELD.items():
        print(f"held: {name} {before[name]}: {reason}")
    for bound in sorted(set(upper_bounds(report, before))):
        print(f"limited: {bound}")
    if changed and not is_check:
        SETUP.write_text(with_versions(text, versions), encoding="utf-8")
    if not is_check:
        write_locks("--upgrade")
        print("setup.py and the locks are written: run `make lint test licences` before you commit them")


if __name__ == "__main__":
    main()
