"""Client of the schema registry, which keeps the schema of cdr.final for readers of Confluent's wire format."""

from __future__ import annotations

import json
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orion_beam.errors import UserError
from orion_beam.kafka.login import registry_settings
from orion_beam.telemetry.masking import mask_numbers, without_secrets

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

MAGIC_BYTE = b"\0"
CONFLUENT_HEADER_BYTES = 5
"""Bytes before a value in Confluent's wire format: the magic byte and four bytes of the schema's id."""

_TIMEOUT_S = 10
_RETRIES = 3
_LONGEST_ANSWER = 300
_LARGEST_ID = (1 << 32) - 1
_LOGIN = "schema.registry.basic.auth.user.info"


def register_schema(url: str, subject: str, schema: str) -> bytes:
    """Register a schema, unless it is registered, and return the header of each value: magic byte and schema id.

    Args:
        url: URL of the registry, with a path if it has one; several are separated by commas.
        subject: Subject under which the registry keeps the schema.
        schema: The schema as JSON.

    Raises:
        UserError: the registry cannot be reached, refuses the login, does not answer like a registry, or refuses the
            schema because it is incompatible with the last one. The message names the address, never the login.
    """
    from confluent_kafka.schema_registry import Schema  # noqa: PLC0415 - it brings an HTTP client along: half a second

    client = _client(url)
    found = _asked(url, f"subject {subject}", lambda: client.register_schema(subject, Schema(schema, "AVRO")))
    # Confluent's ids start at 1, but other registries with the same interface use 0.
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= _LARGEST_ID:
        raise UserError(_odd(url, "it gives the schema no id"))
    return MAGIC_BYTE + struct.pack(">I", found)


def fetch_schema(url: str, schema_id: int) -> str:
    """Return the schema that a registry has under an id.

    Raises:
        UserError: the registry cannot be reached, refuses the login, does not answer like a registry, or has no such
            schema.
    """
    client = _client(url)
    found = _asked(url, f"schema {schema_id}", lambda: client.get_schema(schema_id).schema_str)
    if not isinstance(found, str):
        raise UserError(_odd(url, f"it gives no schema for id {schema_id}"))
    return found


def check_registry(url: str) -> None:
    """Check the address of a registry.

    Raises:
        UserError: the text is no address, or contains a login.
    """
    for each in url.split(","):
        try:
            parts = urlsplit(each.strip())
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
            parts = urlsplit("")
        if "@" in each:
            raise UserError(
                "--schema-registry: leave user and password out of the address, where everybody on this machine could"
                f" read them: write {_LOGIN}=USER:PASSWORD into the file that --kafka-config names"
            )
        if not is_address or parts.query or parts.fragment:
            raise UserError(
                f"--schema-registry {without_secrets(each)} is no address: write it as http://HOST:PORT or"
                " https://HOST:PORT/PATH"
            )


@lru_cache(maxsize=8)
def _client(url: str) -> SchemaRegistryClient:
    from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415 - as above

    check_registry(url)
    settings: dict[str, Any] = {**registry_settings(), "url": url, "timeout": _TIMEOUT_S, "max.retries": _RETRIES}
    try:
        return SchemaRegistryClient(settings)
    except (ValueError, TypeError, OSError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise UserError(f"settings schema.registry.… of --kafka-config: {reason}") from None


def _asked(url: str, about: str, ask: Any) -> Any:
    """Return a registry's answer to `ask`.

    Raises:
        UserError: the registry cannot be reached, refuses the request, or does not answer like a registry.
    """
    from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415 - as above

    try:
        return ask()
    except SchemaRegistryError as error:
        raise UserError(_refused(url, about, error.http_status_code, error.error_code, error.error_message)) from None
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        what = "with what is no JSON" if isinstance(error, json.JSONDecodeError) else "with JSON of something else"
        raise UserError(_odd(url, what)) from None
    except Exception as error:
        # The HTTP client's exceptions share no base class with ours, and their package differs by version.
        if "httpx" not in type(error).__module__ and "httpcore" not in type(error).__module__:
            raise
        raise UserError(
            f"schema registry {url} cannot be reached: {_short(str(error))}; check --schema-registry, and for a"
            " certificate schema.registry.ssl.ca.location in the file that --kafka-config names"
        ) from None


def _refused(url: str, about: str, status: int, code: int | None, reason: str | None) -> str:
    if status in (401, 403):
        return f"schema registry {url} lets nobody in ({status}): check {_LOGIN} in the file that --kafka-config names"
    if code in (None, -1):
        return _odd(url, f"HTTP status {status}")
    return f"schema registry {url}: {status} for {about}: {_short(reason or 'no reason given')}"


def _odd(url: str, what: str) -> str:
    return f"schema registry {url} answers as no registry does ({what}): check host, port and path of --schema-registry"


def _short(text: str) -> str:
    return mask_numbers(without_secrets(" ".join(text.split())))[:_LONGEST_ANSWER]
