"""Packaging of ORION Beam. Beam's `--setup_file` also takes this file, to install the project on workers."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def _version() -> str:
    # Reads the version as text: an import would need dependencies that are not installed yet.
    text = (ROOT / "schemas" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^VERSION = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError("schemas/__init__.py declares no VERSION")
    return found[1]


# Exact versions, because a job's submitter and its workers must agree on every byte that they exchange. `make lock`
# renews them; scripts/lock.py says which stay as they are, and why.
DEPENDENCIES = [
    "apache-beam==2.70.0",
    # The extra is the client of schema registries.
    "confluent-kafka[schemaregistry]==2.16.1",
    # The newest that Beam takes.
    "cryptography==47.0.0",
    "fastavro==1.13.1",
    "libffx==2.0.1",
    "msgspec==0.22.0",
    "numba==0.68.1",
    "numpy==2.2.6",
    "openlineage-python==1.54.0",
    "phonenumbers==9.0.43",
    "polars==2.1.0",
    "polars-hash==0.9.3",
    "prometheus-client==0.26.0",
    "psutil==7.2.2",
    "pyarrow==18.1.0",
    "pydantic==2.14.3",
    "pyroaring==1.2.0",
    "pyruhvro==0.4.0",
    "pyyaml==6.0.4",
    "requests==2.34.2",
    "rich==15.0.0",
    # For systems without time zone data.
    "tzdata==2026.6",
    "typer==0.29.2",
    "zstandard==0.25.0",
]

# With these, `orion-beam test` runs the tests of a workspace's stages.
TEST_DEPENDENCIES = ["pytest==9.2.0"]

DEV_DEPENDENCIES = [
    *TEST_DEPENDENCIES,
    # Tests read the Confluent wire format with Confluent's own deserializer.
    "confluent-kafka[avro]==2.16.1",
    "coverage==7.17.5",
    "cyclonedx-python-lib==11.12.0",
    # With these, moto is a server.
    "flask==3.1.3",
    "flask-cors==6.0.5",
    "hypothesis==6.170.15",
    "import-linter==2.16",
    # Tests check the files of a deployment with published schemas.
    "jsonschema==4.26.0",
    "mkdocs-material==9.8.2",
    "mkdocstrings[python]==1.0.8",
    # An S3-compatible server.
    "moto[s3]==5.2.5",
    "mypy==2.4.1",
    "pip-tools==7.6.2",
    "pytest-timeout==2.4.0",
    "pytest-xdist==3.8.0",
    "ruff==0.17.6",
    "types-pyyaml==6.0.12.20261113",
    # The tutorial's test builds the wheel with setuptools, which needs it.
    "wheel==0.48.0",
]

setup(
    name="orion-beam",
    version=_version(),
    description="Call detail records of several countries, unified on Kafka by one Beam graph",
    license="Apache-2.0",
    # Beam pickles a job's code, so submitter and workers must run the same minor version of Python. This version is
    # tested with workers on 3.11.
    python_requires=">=3.11,<3.12",
    install_requires=DEPENDENCIES,
    extras_require={"dev": DEV_DEPENDENCIES, "test": TEST_DEPENDENCIES},
    # `orion_beam` holds symbolic links to `schemas`, `transforms` and `runners`, so these are its subpackages. As
    # top-level packages they would hide a user's own package `transforms`.
    packages=find_packages(include=["orion_beam", "orion_beam.*"]),
    package_data={
        "orion_beam": ["py.typed", "profiles/*", "reference/*", "skeleton/*"],
        "orion_beam.dlq": ["report.html"],
        "orion_beam.generator": ["*.csv"],
        "orion_beam.kafka": ["*.csv"],
        "orion_beam.monitoring": ["site/*"],
        # The package includes the Java sources: jars are built on the machine that first needs them.
        "orion_beam.runners": ["java/pom.xml", "java/artifacts.txt", "java/src/**/*"],
        "orion_beam.runners.deploy": ["docker/*", "kubernetes/**/*", "systemd/*"],
        "orion_beam.runners.flink_parts": ["*.csv", "flink_conf/*.yaml"],
        "orion_beam.runners.monitoring": ["*.yml", "dashboards/*.json"],
        "orion_beam.schemas": ["avro/*.avsc", "avro/*.csv", "avro/older/*.avsc"],
        "orion_beam.topics": ["*.yaml"],
        "orion_beam.transforms.decoders": ["shipped/*.toml"],
        "orion_beam.transforms.rules": ["data/*"],
    },
    entry_points={"console_scripts": ["orion-beam = orion_beam.cli:start"]},
)
