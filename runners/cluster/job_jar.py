"""The self-contained jar of a job: classes, pipeline and options in one file that Flink starts without Python.

`flink run`, Flink's REST API and an application cluster run its main class. The layout under BEAM-PIPELINE is that of
Beam's PortablePipelineJarUtils.
"""

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.portable_runner import JobServiceHandle, PortableRunner
from google.protobuf import json_format
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

import orion_beam
from orion_beam import __version__
from orion_beam.config import JobConfig
from orion_beam.errors import UserError
from orion_beam.inspect.savepoint_graph import savepoint_graph
from orion_beam.runners.doctor.machine import flink_version
from orion_beam.runners.flink import building, built_pipeline, flink_arguments, starting_jvms
from orion_beam.runners.jars.build import Jars, Report, build_uber_jar, ensure_jars, silent
from orion_beam.runners.job_target import JobTarget
from orion_beam.schemas.cdr import SCHEMA_VERSION

MANIFEST_PATH = "META-INF/orion-job.json"

_FOLDER = "BEAM-PIPELINE"
_NAME = "pipeline"
_PIPELINE_PATH = f"{_FOLDER}/{_NAME}/pipeline.json"
_OPTIONS_PATH = f"{_FOLDER}/{_NAME}/pipeline-options.json"

_OF_SUBMISSION = {
    "runner", "flink_master", "flink_job_server_jar", "flink_submit_uber_jar", "savepoint_path",
    "allow_non_restored_state", "job_name",
}  # fmt: skip
"""Beam's options that say where and how a job is submitted. Two jobs that differ in nothing else are the same."""

_SHOWN = ("version", "schema_version", "group", "countries", "configuration")
"""Fields of the manifest that a running job shows, see `orion_of`."""


class JobManifest(BaseModel):
    """What a jar says of its job.

    Attributes:
        version: Version of this product that wrote the jar. Workers need the same one.
        schema_version: Version of the unified CDR that the job writes.
        flink_version: Major and minor version of Flink that runs it.
        name: Name of the job.
        group: Consumer group of the job.
        countries: Countries that it reads.
        topics: Topics that it reads; empty in a jar of an earlier version.
        configuration: Hash of configuration and Beam options; the same for two jobs that do the same.
        workers: Address of its worker pool, as task managers see it; None when Flink starts workers otherwise.
        parallelism: Parallelism of the job.
        written_at: Time at which the jar was written.
    """

    model_config = ConfigDict(frozen=True)

    version: str
    schema_version: int
    flink_version: str
    name: str
    group: str
    countries: tuple[str, ...]
    topics: tuple[str, ...] = ()
    configuration: str
    workers: str | None
    parallelism: int
    written_at: AwareDatetime

    @classmethod
    def of(cls, jar: Path) -> Self:
        """Read the manifest of a jar.

        Raises:
            UserError: The file is no jar of a job of this product.
        """
        try:
            with zipfile.ZipFile(jar) as file:
                return cls.model_validate_json(file.read(MANIFEST_PATH))
        except OSError as error:
            raise UserError(f"{jar}: {error.strerror or error}") from None
        except (zipfile.BadZipFile, KeyError, ValidationError):
            raise UserError(f"{jar} is no jar that `orion-beam submit --to-jar` has written") from None


def orion_of(user_config: Mapping[str, str]) -> dict[str, str]:
    """Return what a running job shows of its manifest: the fields of _SHOWN, as text.

    Args:
        user_config: `execution-config.user-config` of Flink's answer for `jobs/ID/config`.
    """
    found = {field: user_config.get("orion" + field.title().replace("_", "")) for field in _SHOWN}
    return {field: text for field, text in found.items() if text is not None}


def job_name(group: str, countries: Sequence[str]) -> str:
    """Return the name of a group's job over some countries, as Flink shows it."""
    return "-".join(["orion", group, *countries])


def configuration_hash(config: JobConfig, arguments: Sequence[str]) -> str:
    """Return a hash of what a job does. It is the same whenever and from wherever the job is submitted.

    Args:
        config: The job.
        arguments: Beam's options that the user gives.
    """
    described = config.model_dump(mode="json", exclude={"source": {"lease", "second_job", "expansion_service"}})
    profiles = {code: profile.model_dump(mode="json") for code, profile in config.profiles.items()}
    options = PipelineOptions(flink_arguments(Jars.within(Path()), arguments))
    kept = {name: value for name, value in _all_of(options).items() if name not in _OF_SUBMISSION}
    text = json.dumps([__version__, described, profiles, kept], sort_keys=True, default=str)
    # The place where this package is installed.
    text = text.replace(str(Path(orion_beam.__file__).parent), "")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_job_jar(config: JobConfig, arguments: Sequence[str], path: Path, report: Report = silent) -> JobManifest:
    """Write the jar of a job. The file appears whole or not at all, and only its owner may read it.

    Args:
        config: The job; its source and sink are Kafka.
        arguments: Beam's options that the user gives; `flink_arguments` adds the others.
        path: Path of the jar. A file that is there is replaced.
        report: Receives progress lines when jars are built first.

    Raises:
        PrerequisiteError: Java is missing, or a jar cannot be fetched.
        ServiceFailedError: The JVM that expands the read from Kafka does not start.
        UserError: The path cannot be written.
    """
    library = build_uber_jar(report)
    options = PipelineOptions(flink_arguments(ensure_jars(report), arguments), save_main_session=False)
    with building():
        pipeline = starting_jvms(lambda: built_pipeline(config, options))
        proto = PortableRunner.get_proto_pipeline(pipeline, options)
    for environment in proto.components.environments.values():
        # The jar has the classes of the read, and the workers have this package: nothing is staged.
        del environment.dependencies[:]
    group = config.kafka_source.group_id
    target = JobTarget.of(arguments)
    given = _all_of(options)
    name = given["job_name"] = given["job_name"] or job_name(group, config.countries)
    manifest = JobManifest(
        version=__version__,
        schema_version=SCHEMA_VERSION,
        flink_version=flink_version(),
        name=name,
        group=group,
        countries=config.countries,
        topics=config.topics,
        configuration=configuration_hash(config, arguments),
        workers=target.pool,
        parallelism=target.parallelism,
        written_at=datetime.now(UTC),
    )
    for option in _OF_SUBMISSION - {"job_name"}:
        given.pop(option, None)
    # Flink shows a job's options, also those that Beam does not know.
    given |= {f"orion_{field}": _text(getattr(manifest, field)) for field in _SHOWN}
    files = {
        MANIFEST_PATH: manifest.model_dump_json(indent=2),
        _PIPELINE_PATH: json_format.MessageToJson(proto),
        _OPTIONS_PATH: json_format.MessageToJson(JobServiceHandle.encode_pipeline_options(given)),
        f"{_FOLDER}/pipeline-manifest.json": json.dumps({"defaultJobName": _NAME}),
    }
    _write(library, files, path)
    return manifest


def with_parallelism(jar: Path, parallelism: int, path: Path) -> JobManifest:
    """Write a copy of a job's jar with another parallelism; see `write_job_jar`.

    Raises:
        UserError: The file is no jar of a job, or the path cannot be written.
    """
    manifest = JobManifest.of(jar).model_copy(update={"parallelism": parallelism})
    with zipfile.ZipFile(jar) as file:
        options = json.loads(file.read(_OPTIONS_PATH))
    options["beam:option:parallelism:v1"] = parallelism
    _write(jar, {MANIFEST_PATH: manifest.model_dump_json(indent=2), _OPTIONS_PATH: json.dumps(options)}, path)
    return manifest


def graph_of(jar: Path) -> dict[str, str]:
    """Return what a savepoint of a jar's job holds, see `orion_beam.inspect.savepoint_graph`.

    Raises:
        UserError: The file is no jar of a job.
    """
    return savepoint_graph(_pipeline_of(jar))


def versions_of(jar: Path) -> dict[str, str]:
    """Return the versions that a jar's job tells its worker pool, see `orion_beam.runners.worker_pool.versions`.

    Raises:
        UserError: The file is no jar of a job.
    """
    versions: dict[str, str] = {}
    for environment in _pipeline_of(jar).components.environments.values():
        if environment.urn == common_urns.environments.EXTERNAL.urn:
            versions |= beam_runner_api_pb2.ExternalPayload.FromString(environment.payload).params
    return versions


def _pipeline_of(jar: Path) -> Any:
    JobManifest.of(jar)
    with zipfile.ZipFile(jar) as file:
        return json_format.Parse(file.read(_PIPELINE_PATH), beam_runner_api_pb2.Pipeline())


def _text(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _all_of(options: PipelineOptions) -> dict[str, Any]:
    # Flink's options are not known to Beam's Python part.
    return dict(options.get_all_options(retain_unknown_options=True))


def _write(library: Path, files: Mapping[str, str], path: Path) -> None:
    """Write a copy of a jar with more files, or with other ones of the same names."""
    try:
        # A temporary file can be read by its owner only.
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as copy, library.open("rb") as source:
            shutil.copyfileobj(source, copy)
        with zipfile.ZipFile(part, "a", zipfile.ZIP_DEFLATED) as jar:
            # What the directory of the file does not list is not there for its readers.
            jar.filelist = [each for each in jar.filelist if each.filename not in files]
            for name, text in files.items():
                jar.NameToInfo.pop(name, None)
                jar.writestr(name, text)
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
