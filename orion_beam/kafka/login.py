"""Login to Kafka: settings from a properties file, for the clients of every command and every worker."""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from orion_beam.errors import UserError
from orion_beam.kafka import CONFIG_VARIABLE, CONSUMER_PREFIX, LOGIN_PREFIXES, REGISTRY_PREFIX, SECRETS
from orion_beam.text_files.private import warn_if_open
from orion_beam.text_files.text_file import text_in, why_unreadable

_FILES = {
    "ssl.ca.location": "ssl.ca.pem",
    "ssl.certificate.location": "ssl.certificate.pem",
    "ssl.key.location": "ssl.key.pem",
}
"""Settings of librdkafka that name a PEM file, and those that hold its text."""

_JAVA_PEMS = {
    "ssl.ca.pem": ("ssl.truststore.type", "ssl.truststore.certificates"),
    "ssl.certificate.pem": ("ssl.keystore.type", "ssl.keystore.certificate.chain"),
    "ssl.key.pem": ("ssl.keystore.type", "ssl.keystore.key"),
}
_REGISTRY_FILES = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")
_REGISTRY_NAMES = (*_REGISTRY_FILES, "ssl.key.password", "basic.auth.user.info")

_JAVA_NAMES = {"sasl.mechanisms": "sasl.mechanism"}
_MECHANISMS = {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}
_LOGIN_MODULES = (
    "org.apache.kafka.common.security.plain.PlainLoginModule",
    "org.apache.kafka.common.security.scram.ScramLoginModule",
)

_OAUTH_HANDLER = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler"
_PROVIDER = "dev.orion.beam.kafka.LoginFile"

_JAAS = re.compile(r'(username|password)\s*=\s*"((?:[^"\\]|\\.)*)"')


def login_settings() -> dict[str, str]:
    """Return librdkafka's login settings, from the file that ORION_KAFKA_CONFIG names; else none.

    Raises:
        UserError: The file cannot be read, or contains something other than login settings; names the file, the line
            and the setting, never a value.
    """
    return {name: value for name, value in _file().items() if not name.startswith((CONSUMER_PREFIX, REGISTRY_PREFIX))}


def consumer_settings() -> dict[str, str]:
    """Return the settings of the same file for the Java consumer only.

    Raises:
        UserError: As `login_settings`.
    """
    return _of_prefix(CONSUMER_PREFIX)


def registry_settings() -> dict[str, str]:
    """Return the settings of the same file for confluent-kafka's client of the schema registry.

    Raises:
        UserError: As `login_settings`.
    """
    return _of_prefix(REGISTRY_PREFIX)


def _of_prefix(prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in _file().items() if name.startswith(prefix)}


def _file() -> Mapping[str, str]:
    path = os.environ.get(CONFIG_VARIABLE)
    return _read(Path(path)) if path else {}


def login_file() -> str | None:
    """Return the path of the file, which a job carries to its workers: so the job holds no secret. None without one."""
    return os.environ.get(CONFIG_VARIABLE) or None


def ends_with_this_process() -> bool:
    """Return whether the file is gone when this process ends: a login of the job file, or a shell's `<(…)`."""
    return (login_file() or "").startswith(("/proc/", "/dev/fd/"))


def use_login_file(path: str | None) -> None:
    """Log in as a job does, in one of its workers. The worker's own environment may name another place of the file.

    Raises:
        UserError: This process cannot read the file.
    """
    if path is None:
        os.environ.pop(CONFIG_VARIABLE, None)
        return
    here = os.environ[CONFIG_VARIABLE] = login_file() or path
    if not os.access(here, os.R_OK):
        raise UserError(
            f"this worker cannot read {here}, which holds the login to Kafka: put it there, or name its place in"
            f" {CONFIG_VARIABLE} in the environment of task managers and workers"
        )


def java_settings(login: Mapping[str, str], own: Mapping[str, str] | None = None) -> dict[str, str]:
    """Convert librdkafka's login settings to those of Kafka's Java client, with references in place of secrets.

    The client puts in the secrets where it runs, from the login file there (`LoginFile.java`).

    Args:
        login: Login settings of librdkafka.
        own: Settings for the Java consumer only.
    """
    settings: dict[str, str] = {}
    for name, value in login.items():
        shown = _reference(name) if name.endswith(SECRETS) else value
        if name in _JAVA_PEMS:
            kind, holder = _JAVA_PEMS[name]
            settings |= {kind: "PEM", holder: shown}
        elif name == "ssl.endpoint.identification.algorithm":
            settings[name] = "" if value == "none" else value
        elif name == "sasl.oauthbearer.token.endpoint.url" or not name.startswith(
            ("sasl.username", "sasl.password", "sasl.oauthbearer.")
        ):
            settings[_JAVA_NAMES.get(name, name)] = shown
    mechanism = settings.get("sasl.mechanism", "")
    if mechanism in _MECHANISMS:
        settings["sasl.jaas.config"] = _reference("sasl.jaas.config")
    if mechanism == "OAUTHBEARER" and login.get("sasl.oauthbearer.method") == "oidc":
        settings |= {
            "sasl.jaas.config": _reference("sasl.jaas.config"),
            "sasl.login.callback.handler.class": _OAUTH_HANDLER,
        }
    for name, value in (own or {}).items():
        settings[name] = _reference(CONSUMER_PREFIX + name) if name.endswith(SECRETS) else value
    if any(value.startswith("${login:") for value in settings.values()):
        others = settings.get("config.providers")
        settings |= {
            "config.providers": f"{others},login" if others else "login",
            "config.providers.login.class": _PROVIDER,
            "config.providers.login.param.file": login_file() or "",
        }
    return settings


def _reference(name: str) -> str:
    return f"${{login:{name}}}"


@lru_cache(maxsize=4)
def _read(path: Path) -> Mapping[str, str]:
    try:
        lines = text_in(path).splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"--kafka-config {path} cannot be read: {why_unreadable(error)}") from None
    settings: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith(("#", "!")):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name:
            raise UserError(f"{path}, line {number}: expected NAME=VALUE")
        if name.startswith(CONSUMER_PREFIX):
            settings[name] = value
            continue
        if name.startswith(REGISTRY_PREFIX):
            settings[name] = _of_registry(name, value, path.parent, f"{path}, line {number}")
            continue
        if not name.startswith(LOGIN_PREFIXES):
            raise UserError(
                f"{path}, line {number}: {name} is not about logging in; brokers are given by --bootstrap-servers,"
                " other settings by --consumer-config and --producer-config"
            )
        settings |= _as_librdkafka(name, value, path.parent, f"{path}, line {number}")
    try:
        # Creating a client checks the certificates, too; checking the settings alone does not.
        own = {name: each for name, each in settings.items() if name.startswith(LOGIN_PREFIXES)}
        AdminClient(own | {"log_level": 0})
    except (KafkaException, ValueError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        raise UserError(f"{path}: {reason}") from None
    if any(name.endswith(SECRETS) for name in settings):
        warn_if_open(path)
    return settings


def _of_registry(name: str, value: str, directory: Path, where: str) -> str:
    own = name.removeprefix(REGISTRY_PREFIX)
    if own not in _REGISTRY_NAMES:
        known = ", ".join(REGISTRY_PREFIX + each for each in _REGISTRY_NAMES)
        raise UserError(f"{where}: {name} is not known: expected one of {known}; the address is --schema-registry")
    if own == "basic.auth.user.info" and ":" not in value:
        raise UserError(f"{where}: {name}: write it as USER:PASSWORD")
    if own not in _REGISTRY_FILES:
        return value
    file = directory / value
    try:
        file.read_bytes()
    except OSError as error:
        raise UserError(f"{where}: {name} {file} cannot be read: {error.strerror}") from None
    return str(file.absolute())


def _as_librdkafka(name: str, value: str, directory: Path, where: str) -> dict[str, str]:
    """Convert a setting to librdkafka's form. Settings of Java that have an equivalent are accepted, too."""
    if name == "sasl.jaas.config":
        found = {f"sasl.{key}": re.sub(r"\\(.)", r"\1", text) for key, text in _JAAS.findall(value)}
        if not any(module in value for module in _LOGIN_MODULES) or len(found) != len(("user", "password")):
            raise UserError(f"{where}: of sasl.jaas.config, only user name and password of PLAIN and SCRAM are known")
        return found
    if name.startswith("ssl.truststore."):
        raise UserError(f"{where}: {name} is Java's; name the CA's certificate, in PEM, as ssl.ca.location")
    if name == "ssl.keystore.type":
        raise UserError(f"{where}: {name} is Java's; name the client's PEM files as ssl.certificate.location and"
                        " ssl.key.location")  # fmt: skip
    if name in _FILES:
        file = directory / value
        if file.is_dir() or value == "probe":
            raise UserError(f"{where}: {name} must name a file")
        try:
            text = file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no PEM"
            raise UserError(f"{where}: {name} {file} cannot be read: {reason}") from None
        if _FILES[name].endswith(SECRETS):
            warn_if_open(file)
        return {_FILES[name]: text}
    return {"sasl.mechanisms" if name == "sasl.mechanism" else name: value}
