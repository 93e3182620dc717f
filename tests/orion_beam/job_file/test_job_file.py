"""The job file: what it takes and refuses, what it gives to commands, and where it says a value comes from."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orion_beam.cli.main import SUBCOMMANDS
from orion_beam.errors import UserError
from orion_beam.job_file.effective import effective_values
from orion_beam.job_file.model import JobFile
from orion_beam.job_file.options import KEYS_OF_OPTIONS, beam_options_of, option_value
from orion_beam.job_file.read import find_job, read_job
from orion_beam.kafka import CONFIG_VARIABLE
from orion_beam.kafka.login import login_settings
from orion_beam.telemetry.masking import without_secrets
from orion_beam.workspace import JOB_FILE, Workspace

FULL = """\
version: 1
brokers: [one:9092, two:9092]
countries: [FR, NO]
group: nightly
acls: {stream: "User:a", desk: ["User:CN=b,O=Telco", "User:c"]}
topics: {final: cdr.final.x, dead_letters: cdr.dlq.x, profile: development}
publish: [validated, enriched]
start_from: normalized
value_format: json
schema_registry: http://registry:8081
kafka:
  consumer: {max.poll.records: 500}
  producer: {linger.ms: 20, enable.idempotence: true}
reference:
  cells: reference/cells.csv
  subscribers: s3://bucket/subscribers.parquet
  refresh: off
record_checks: {tag_partials: true, flag_duplicates: true, duplicate_window: 1000, detect_gaps: true, gap_tolerance: 5m}
rules:
  NO: {luhn_failed: off}
flink:
  master: jobmanager:8081
  parallelism: 4
  checkpointing_interval: 1m
  restart: {attempts: 3, delay: 20s}
  workers: localhost:50000
  savepoint_directory: s3://bucket/savepoints
  spread_countries: true
  options: {max_bundle_size: 32, object_reuse: true, disable_metrics: false, experiments: [a, b]}
workers: {listen: "127.0.0.1:50001", metrics_listen: "0.0.0.0:9311", spares: 1, memory: 2GiB, drain_limit: 1m,
  token_file: secrets/token}
metrics: {port: 9311, listen: "0.0.0.0:9310", token_file: secrets/metrics, disks: [data]}
logging: {format: json, quiet: true}
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def of(text: str):
        (tmp_path / JOB_FILE).write_text(text, encoding="utf-8")
        return read_job(Workspace(tmp_path))

    return of


def test_every_key_gives_the_option_of_its_name(job, tmp_path: Path) -> None:
    given = {name: option_value(job(FULL), name) for name in KEYS_OF_OPTIONS}
    assert given == {
        "bootstrap_servers": "one:9092,two:9092",
        "principals": ["stream=User:a", "desk=User:CN=b,O=Telco", "desk=User:c"],
        "countries": "FR,NO",
        "profile": "development",
        "publish": "validated,enriched",
        "start_from": "normalized",
        "value_format": "json",
        "schema_registry": "http://registry:8081",
        "consumer_settings": ["max.poll.records=500"],
        "producer_settings": ["linger.ms=20", "enable.idempotence=true"],
        "cells": str(tmp_path / "reference/cells.csv"),
        "subscribers": "s3://bucket/subscribers.parquet",
        "reference_refresh": "off",
        "tag_partials": True,
        "flag_duplicates": True,
        "duplicate_window": 1000,
        "detect_gaps": True,
        "gap_tolerance": "5m",
        "spread_countries": True,
        "flink": ["http://jobmanager:8081"],
        "pool_listen": "127.0.0.1:50001",
        "pool_metrics": "0.0.0.0:9311",
        "spares": 1,
        "worker_memory": "2GiB",
        "drain_limit": "1m",
        "token_file": str(tmp_path / "secrets/token"),
        "cluster": "http://jobmanager:8081",
        "savepoint_dir": "s3://bucket/savepoints",
        "metrics_port": 9311,
        "listen": "0.0.0.0:9310",
        "metrics_token": str(tmp_path / "secrets/metrics"),
        "disk": [str(tmp_path / "data")],
        "log_format": "json",
        "quiet": True,
    }


def test_flink_gets_its_options_unless_the_command_line_gives_them(job) -> None:
    options = [
        "--flink_master=jobmanager:8081",
        "--parallelism=4",
        "--checkpointing_interval=60000",
        "--number_of_execution_retries=3",
        "--execution_retry_delay=20000",
        "--environment_type=EXTERNAL",
        "--environment_config=localhost:50000",
        "--max_bundle_size=32",
        "--object_reuse",
        "--experiments=a",
        "--experiments=b",
    ]
    assert beam_options_of(job(FULL), ()) == options
    assert beam_options_of(job(FULL), {"--parallelism", "--experiments"}) == [options[0], *options[2:9]]
    assert beam_options_of(job("version: 1\n"), ()) == []


def test_what_is_left_out_gives_nothing(job) -> None:
    assert [name for name in KEYS_OF_OPTIONS if option_value(job("version: 1\n"), name) is not None] == []


def test_defaults_are_those_of_the_options() -> None:
    """`config show` says what a command does without a value."""
    settings = JobFile(version=1)
    for name in ("run", "replay", "audit", "doctor", "monitor", "top", "workers"):
        for parameter in SUBCOMMANDS[name].load(name).params:
            key = KEYS_OF_OPTIONS.get(parameter.name)
            if key is None or parameter.default is None or not parameter.default:
                continue
            value = settings
            for part in key.split("."):
                value = getattr(value, part)
            assert parameter.default == value, (name, parameter.name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: the file is empty: it needs at least `version: 1`"),
        ("brokers: x:1\n", "1: version: is required"),
        ("version: 2\n", "1: version: expected 1"),
        ("version: true\n", "1: version: expected a number, not true or false"),
        ("version: 1\nflink: {parallelism: true}\n", "2: flink.parallelism: expected a number, not true or false"),
        (
            f"version: 1\nflink: {{parallelism: {'9' * 30}}}\n",
            "2: flink.parallelism: expected less than or eq",
        ),
        (
            "version: 1\nflink: {master: 'flink:99999'}\n",
            "2: flink.master: 'flink:99999' is no address of a Job",
        ),
        ("version: 1\nflink: {workers: localhost}\n", "2: flink.workers: 'localhost' is no address: write it as host:"),
        ("version: 1\nbrokers: host:99999\n", "2: brokers: 'host:99999' is no address: write it as host:port, with"),
        ("version: 1\nbrokers:\n- one:1\n- two\n", "4: brokers.1: 'two' is no address: write it as host:port"),
        ("- 1\n", "1: expected "),
        ("version: 1\nbokers: x:1\n", "2: bokers: there is no such key; did you mean brokers?"),
        (
            "version: 1\nflink:\n  paralelism: 2\n",
            "3: flink.paralelism: there is no such key; did you mean paralle",
        ),
        ("version: 1\nflink:\n  restart:\n    atempts: 2\n", "4: flink.restart.atempts: there is no such key; did"),
        ("version: 1\nflink: {restart: {delay: 5s}}\n", "2: flink.restart.attempts: is required"),
        ("version: 1\nflink: 4\n", "2: flink: expected keys and values"),
        ("version: 1\nflink: {parallelism: many}\n", "2: flink.parallelism: expected an integer"),
        ("version: 1\ncountries: FR\n", "2: countries: expected a list"),
        ("version: 1\ncountries: [FR,\n  FRA]\n", "3: countries.1: a country is two capital letters, such as FR"),
        ("version: 1\npublish: [decoded]\n", "2: publish.0: expected 'validated', 'normalized' or 'enriched'"),
        ("version: 1\nreference: {refresh: 5 minutes}\n", "2: reference.refresh: '5 minutes' is no duration: write"),
        (
            "version: 1\nrules: {FR: {luhn_failed: fatal}}\n",
            "2: rules.FR.luhn_failed: expected 'error', 'warn' ",
        ),
        ("version: 1\ngroup: ${HOME}\n", "2: group: write the value itself: ${…} is for secrets only, under `login`"),
        ("version: 1\nbrokers: [a:1,\n  '${B}']\n", "3: brokers.1: write the value itself"),
        ("version:1 ${HOME}\n", "1: write the value itself"),
        ("version: 1\nlogin: {sasl.password: x}\n", "2: login: sasl.password is a secret, so write it as ${NAME} for"),
        ("version: 1\nlogin: {sasl.username: '${ME}'}\n", "2: login.sasl.username: write the value itself"),
        ("version: 1\nkafka: {producer: {ssl.key.password: x}}\n", "2: kafka.producer: ssl.key.password is a secret, "),
        ("version: 1\nlogin: {SASL.Password: x}\n", "2: login: SASL.Password is a secret, so write it as ${NAME} for"),
        ("version: 1\nlogin: {sasl.username: [x]}\n", "2: login.sasl.username: expected a string"),
        ("version: 1\nreference: {refresh: 5}\n", "2: reference.refresh: '5' is no duration: write"),
        ("version: 1\nstages: [{name: a, after: decode}]\n", "2: stages.0.after: expected 'validate', "),
    ],
)
def test_a_mistake_is_one_line_with_file_line_field_and_fix(job, text: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^orion.yaml:{re.escape(message)}") as error:
        job(text)
    # Lines on the screen are masked, and masking must leave the message as it is.
    assert without_secrets(str(error.value)) == str(error.value)


def test_a_changed_file_is_read_again(job) -> None:
    assert job("version: 1\ngroup: one\n").settings.group == "one"
    assert job("version: 1\ngroup: three\n").settings.group == "three"


def test_a_secret_is_shown_by_its_reference_only(job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "hunter2")
    text = "version: 1\nlogin:\n  sasl.username: me\n  sasl.password: ${KAFKA_PASSWORD}\nschema_registry: http://u:hunter2@r"
    shown = {value.key: value for value in effective_values(job(text), {})}
    assert shown["login.sasl.password"] == ("login.sasl.password", "********", "orion.yaml:4, ${KAFKA_PASSWORD}")
    assert shown["login.sasl.username"].value == "me"
    assert "hunter2" not in str(shown)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("flink.options.password", "flink: {options: {password: hunter2}}"),
        ("flink.options.s3.secret-key", "flink: {options: {s3.secret-key: hunter2}}"),
        ("flink.options.s3_secret_access_key", "flink: {options: {s3_secret_access_key: [hunter2, x]}}"),
        ("stages.0.options.api_key", "stages: [{name: a, after: validate, options: {api_key: hunter2}}]"),
        ("stages.0.options.pins", "stages: [{name: a, after: validate, options: {pins: [{password: hunter2}]}}]"),
        ("kafka.consumer.x", "kafka: {consumer: {x: 'password=hunter2'}}"),
    ],
)
def test_no_value_that_looks_like_a_secret_is_shown(job, key: str, text: str) -> None:
    shown = {value.key: value for value in effective_values(job(f"version: 1\n{text}\n"), {})}
    assert shown[key].source == "orion.yaml:2"
    assert "hunter2" not in str(shown)


LOGIN = """\
version: 1
login:
  security.protocol: SASL_PLAINTEXT
  sasl.mechanism: PLAIN
  sasl.username: me
  sasl.password: {secret}
"""


@pytest.mark.parametrize("secret", ["${THE_PASSWORD}", "${file:secret.txt}"])
def test_a_login_reaches_this_process_and_those_that_it_starts_and_no_disk(
    job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    monkeypatch.setenv("THE_PASSWORD", "hunter2")
    monkeypatch.setenv(CONFIG_VARIABLE, "")
    (tmp_path / "secret.txt").write_text("hunter2\n")
    (tmp_path / "secret.txt").chmod(0o644)
    job(LOGIN.replace("{secret}", secret)).use_login()
    program = "from orion_beam.kafka.login import login_settings; print(login_settings()['sasl.password'])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True, timeout=600) == "hunter2\n"
    assert os.environ[CONFIG_VARIABLE].startswith("/proc/")
    is_file = secret.startswith("${file:")
    assert ("secret.txt holds secrets, and every user of this machine can read it" in caplog.text) is is_file
    login_settings()
    assert caplog.text.count("holds secrets") == is_file


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("${NO_SUCH_THING}", "the environment has no variable NO_SUCH_THING: set it to the secret"),
        ("${file:none.txt}", "none.txt cannot be read: No such file"),
    ],
)
def test_a_secret_that_is_not_there_is_named_with_its_line(
    job, monkeypatch: pytest.MonkeyPatch, secret: str, message: str
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, "")
    with pytest.raises(
        UserError, match=f"^orion.yaml:6: login: sasl.password is not known, since {re.escape(message)}"
    ):
        job(LOGIN.replace("{secret}", secret)).use_login()


def test_the_environments_login_comes_first(job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, "theirs.properties")
    job("version: 1\nlogin: ours.properties\n").use_login()
    assert os.environ[CONFIG_VARIABLE] == "theirs.properties"


def test_without_a_workspace_there_is_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_job() is None
