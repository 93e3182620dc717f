"""The schema registry: where the schema of cdr.final is kept for readers of Confluent's wire format."""

import json
import struct
import urllib.error
import urllib.request

from orion_beam.errors import UserError

_MAGIC_BYTE = 0


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
        with urllib.request.urlopen(request, timeout=10) as response:
            return struct.pack(">bI", _MAGIC_BYTE, json.load(response)["id"])
    except urllib.error.HTTPError as error:
        raise UserError(f"schema registry {url}: {error.code} {error.reason} for subject {subject}") from None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"schema registry {url}: {error}; check --schema-registry") from None
