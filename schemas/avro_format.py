"""Identification of a schema in an encoded value: its fingerprint and the header of Avro's single-object encoding."""

import json

from fastavro.schema import fingerprint as fastavro_fingerprint
from fastavro.schema import to_parsing_canonical_form

SINGLE_OBJECT_MARKER = b"\xc3\x01"
SINGLE_OBJECT_HEADER_BYTES = 10


def fingerprint(schema_json: str) -> bytes:
    """Return the CRC-64-AVRO fingerprint of a schema's Parsing Canonical Form: 8 bytes, little-endian.

    Names, types and the order of fields change the fingerprint. Docs, defaults, aliases and JSON layout do not.
    """
    return bytes.fromhex(fastavro_fingerprint(to_parsing_canonical_form(json.loads(schema_json)), "CRC-64-AVRO"))


def fingerprint_digits(schema_json: str) -> str:
    """Return a schema's fingerprint as 16 hexadecimal digits, most significant first, as other tools show it."""
    return fingerprint(schema_json)[::-1].hex()


def single_object_header(schema_json: str) -> bytes:
    """Return the header of Avro's single-object encoding: 10 bytes, marker and fingerprint, before the record."""
    return SINGLE_OBJECT_MARKER + fingerprint(schema_json)
