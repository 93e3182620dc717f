"""The schema registry: where the schema of cdr.final is kept for readers of Confluent's wire format."""

import json
import struct
import urllib.error
import urllib.request

from orion_beam.errors import UserError

MAGIC_BYTE = b"\0"
CONFLUENT_HEADER_BYTES = 5
"""What stands before a value in Confluent's wire format: the magic byte, and the schema's id in four."""

_TIMEOUT_S = 10


def register_schema(url: str, subject: str, schema: str) -> bytes:
    """Register a schema, or find it registered, and return what stands before each value: magic byte and schema id.

    Raises:
        UserError: the registry cannot be reached, or refuses the schema (it is not compatible with the last one).
    """
    request = urllib.request.Request(
        f"{url.rstrip('/')}/subjects/{subject}/versions",
        data=json.dumps({"schema": schema}).encode(),
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            return MAGIC_BYTE + struct.pack(">I", json.load(response)["id"])
    except urllib.error.HTTPError as error:
        raise UserError(f"schema registry {url}: {error.code} {error.reason} for subject {subject}") from None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"schema registry {url}: {error}; check --schema-registry") from None


def fetch_schema(url: str, schema_id: int) -> str:
    """Return the schema that a registry has under an id.

    Raises:
        UserError: the registry cannot be reached, or has no such schema.
    """
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/schemas/ids/{schema_id}", timeout=_TIMEOUT_S) as response:
            return str(json.load(response)["schema"])
    except urllib.error.HTTPError as error:
        raise UserError(f"schema registry {url}: {error.code} {error.reason} for schema {schema_id}") from None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"schema registry {url}: {error}; check --schema-registry") from None
