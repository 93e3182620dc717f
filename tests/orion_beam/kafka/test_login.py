"""The file with which clients log in: what it may hold, what becomes of it in Java, and that no value is ever shown."""

from pathlib import Path

import pytest

from orion_beam.errors import UserError
from orion_beam.kafka import CONFIG_VARIABLE
from orion_beam.kafka.clients import consumer_config, producer_config
from orion_beam.kafka.login import java_settings, login_file, login_settings, registry_settings, use_login_file

JAAS = "org.apache.kafka.common.security"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    named = tmp_path / "client.properties"
    monkeypatch.setenv(CONFIG_VARIABLE, str(named))
    return named


def test_without_a_file_nothing_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    assert login_settings() == {}


def test_producer_and_java_consumer_log_in_as_the_file_says(file: Path) -> None:
    file.write_text(
        "# a comment\n\nsecurity.protocol = SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\n"
        'sasl.username=o"r\\ion\nsasl.password=a=b\n'
    )
    producer = producer_config("broker:9092", {})
    assert producer["sasl.password"] == "a=b"
    assert producer["sasl.mechanisms"] == "SCRAM-SHA-512"
    consumer = consumer_config("broker:9092", "group", {})
    assert consumer["security.protocol"] == "SASL_PLAINTEXT"
    assert consumer["sasl.mechanism"] == "SCRAM-SHA-512"
    assert consumer["sasl.jaas.config"] == "${login:sasl.jaas.config}"
    assert consumer["config.providers.login.param.file"] == str(file)
    assert not {"sasl.username", "sasl.password", "sasl.mechanisms"} & set(consumer)


def test_a_setting_of_a_command_wins_over_the_file(file: Path) -> None:
    file.write_text("security.protocol=SSL\n")
    assert producer_config("broker:9092", {"security.protocol": "PLAINTEXT"})["security.protocol"] == "PLAINTEXT"


def test_java_gets_certificates_as_text_and_keys_by_reference(file: Path) -> None:
    pems = {"ssl.ca.pem": "CA", "ssl.certificate.pem": "CERT", "ssl.key.pem": "KEY", "ssl.key.password": "p"}
    assert java_settings({"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "none", **pems}) == {
        "security.protocol": "SSL",
        "ssl.endpoint.identification.algorithm": "",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.certificates": "CA",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.certificate.chain": "CERT",
        "ssl.keystore.key": "${login:ssl.key.pem}",
        "ssl.key.password": "${login:ssl.key.password}",
        "config.providers": "login",
        "config.providers.login.class": "dev.orion.beam.kafka.LoginFile",
        "config.providers.login.param.file": str(file),
    }


def test_what_is_the_java_consumer_s_alone_and_the_registry_s_goes_to_nobody_else(file: Path) -> None:
    (file.parent / "ca.pem").write_text("CA")
    file.write_text(
        "security.protocol=SSL\nconsumer.sasl.jaas.config=com.example.Login required password=hunter2;\n"
        "schema.registry.basic.auth.user.info=me:hunter2\nschema.registry.ssl.ca.location=ca.pem\n"
    )
    assert login_settings() == {"security.protocol": "SSL"}
    consumer = consumer_config("broker:9092", "group", {})
    assert consumer["sasl.jaas.config"] == "${login:consumer.sasl.jaas.config}"
    assert consumer["security.protocol"] == "SSL"
    assert "hunter2" not in str(producer_config("broker:9092", {}))
    assert registry_settings() == {
        "basic.auth.user.info": "me:hunter2", "ssl.ca.location": str(file.parent / "ca.pem")
    }  # fmt: skip


@pytest.mark.parametrize("module", ["plain.PlainLoginModule", "scram.ScramLoginModule"])
def test_the_jaas_line_of_kafkas_own_tools_is_understood(file: Path, module: str) -> None:
    file.write_text(f'sasl.jaas.config={JAAS}.{module} required username="me" password="a\\"b";\n')
    assert login_settings() == {"sasl.username": "me", "sasl.password": 'a"b'}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("sasl.password hunter2", "line 2: expected NAME=VALUE"),
        ("bootstrap.servers=hunter2", "line 2: bootstrap.servers is not about logging in"),
        ("ssl.truststore.location=hunter2", "line 2: ssl.truststore.location is Java's; .* as ssl.ca.location"),
        ("ssl.keystore.type=JKS", "line 2: ssl.keystore.type is Java's"),
        ("ssl.ca.location=nowhere.pem", "line 2: ssl.ca.location .*nowhere.pem cannot be read: No such file"),
        ("ssl.ca.location=.", "line 2: ssl.ca.location must name a file"),
        ("sasl.jaas.config=com.example.Login required password=hunter2;", "line 2: of sasl.jaas.config, only"),
        ("sasl.pasword=hunter2", 'No such configuration property: "sasl.pasword"'),
    ],
)
def test_a_file_that_cannot_be_gone_by_is_refused_with_its_line_and_without_a_value(
    file: Path, line: str, problem: str
) -> None:
    file.write_text(f"# first\n{line}\n")
    with pytest.raises(UserError, match=problem) as refused:
        login_settings()
    assert str(file) in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(UserError, match=rf"--kafka-config {file} cannot be read: No such file"):
        login_settings()


def test_a_worker_logs_in_by_the_file_of_its_job_unless_its_environment_names_another_place(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("security.protocol=PLAINTEXT\n")
    carried = login_file()
    assert carried == str(file)
    monkeypatch.delenv(CONFIG_VARIABLE)
    use_login_file(carried)
    assert login_settings() == {"security.protocol": "PLAINTEXT"}
    mounted = tmp_path / "mounted.properties"
    mounted.write_text("security.protocol=SSL\n")
    monkeypatch.setenv(CONFIG_VARIABLE, str(mounted))
    use_login_file(carried)
    assert login_settings() == {"security.protocol": "SSL"}
    use_login_file(None)
    assert login_settings() == {}


def test_a_worker_without_the_file_says_where_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, "")
    with pytest.raises(UserError, match="this worker cannot read /nowhere.*ORION_KAFKA_CONFIG in the environment of"):
        use_login_file("/nowhere")


@pytest.mark.parametrize(("mode", "is_told"), [(0o600, False), (0o640, False), (0o604, True), (0o644, True)])
def test_a_file_with_a_password_that_everybody_can_read_is_warned_of(
    file: Path, caplog: pytest.LogCaptureFixture, mode: int, is_told: bool
) -> None:
    file.write_text("sasl.username=me\nsasl.password=hunter2\n")
    file.chmod(mode)
    login_settings()
    assert (
        f"{file} holds secrets, and every user of this machine can read it: chmod o= {file}" in caplog.text
    ) is is_told
    assert "hunter2" not in caplog.text


def test_a_private_key_that_everybody_can_read_is_warned_of(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = file.parent / "key.pem"
    key.write_text("KEY")
    key.chmod(0o644)
    file.write_text("security.protocol=SSL\nssl.key.location=key.pem\n")
    file.chmod(0o600)
    with pytest.raises(UserError):
        login_settings()  # it is no key
    assert f"{key} holds secrets" in caplog.text
    assert f"{file} holds secrets" not in caplog.text
