import os
import subprocess
import sys
from pathlib import Path

from scripts.lock import HELD, ROOT, pins_of, requirements_of, upper_bounds, versions_of, with_versions

SETUP = """\
DEPENDENCIES = [
    "apache-beam==2.70.0",
    # "Its" client of registries.
    "confluent-kafka[schemaregistry]==2.16.1",
    "PyYAML==6.0.4",
]
DEV_DEPENDENCIES = ["confluent-kafka[avro]==2.16.1", "types-pyyaml==6.0.12.20261113"]
setup(python_requires=">=3.11,<3.12", extras_require={"dev": DEV_DEPENDENCIES})
"""
REPORT = {
    "install": [
        {
            "metadata": {
                "name": "apache-beam",
                "version": "2.70.0",
                "requires_dist": [
                    "pyyaml<7.0.0,>=3.12",
                    "numpy<2.3.0",
                    "types-PyYAML>=6",
                    'confluent-kafka<2; extra == "old"',
                ],
            }
        },
        {"metadata": {"name": "PyYAML", "version": "6.1"}},
    ]
}


def test_pip_is_asked_for_any_version_of_what_is_not_held() -> None:
    assert requirements_of(SETUP) == [
        "apache-beam==2.70.0",
        "confluent-kafka[schemaregistry]",
        "PyYAML",
        "confluent-kafka[avro]",
        "types-pyyaml",
    ]


def test_new_versions_replace_the_pins_and_nothing_else() -> None:
    versions = pins_of(SETUP)
    assert with_versions(SETUP, versions) == SETUP
    versions |= {"confluent-kafka": "2.17.0", "pyyaml": "6.1"}
    expected = SETUP.replace("==2.16.1", "==2.17.0").replace("==6.0.4", "==6.1")
    assert with_versions(SETUP, versions) == expected


def test_the_report_of_pip_gives_versions_and_what_limits_them() -> None:
    assert versions_of(REPORT) == {"apache-beam": "2.70.0", "pyyaml": "6.1"}
    assert list(upper_bounds(REPORT, pins_of(SETUP))) == ["pyyaml: apache-beam 2.70.0 needs <7.0.0"]


def test_every_dependency_is_pinned_and_held_packages_exist() -> None:
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    pins = pins_of(text)
    assert HELD.keys() <= pins.keys()
    assert {"apache-beam", "coverage", "types-pyyaml"} <= pins.keys()


def told(**environment: str) -> str:
    """Run the command where pip cannot work, and return its last line."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.lock", "--check"],
        env=os.environ | {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""} | environment,
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    _progress, line = done.stderr.splitlines()
    return line


def test_without_pip_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    line = told(PYTHONPATH=str(tmp_path))
    assert line.startswith("make lock: pip finds no versions (")
    assert "No module named pip" in line


def test_without_a_network_one_line_says_so() -> None:
    line = told(PIP_INDEX_URL="http://127.0.0.1:9/simple")
    assert line.startswith("make lock: pip finds no versions (")
    assert line.endswith("check pip, the network and PIP_INDEX_URL")
