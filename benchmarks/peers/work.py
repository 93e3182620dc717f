"""The work of a peer on one record, row by row, with pydantic and fastavro: the oracle of all contenders."""

import csv
import io
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import fastavro
from pydantic import BaseModel, Field, ValidationError

_COLUMNS = ("imsi", "msisdn", "imei", "cell_id", "rat", "bytes_up", "bytes_down", "event_time")
_PARIS = ZoneInfo("Europe/Paris")
_NOTHING = (None, None)


def _optional(name: str, kind: object) -> dict[str, object]:
    return {"name": name, "type": ["null", kind]}


_MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
SCHEMA = {
    "type": "record",
    "name": "Cdr",
    "fields": [
        *(_optional(name, "string") for name in ("imsi", "msisdn", "imei", "cell_id", "rat")),
        *(_optional(name, "long") for name in ("bytes_up", "bytes_down")),
        _optional("event_time", _MILLIS),
        *(_optional(name, "string") for name in ("country", "event_type", "timezone", "mcc", "mnc")),
        *(_optional(name, "string") for name in ("segment", "plan", "event_date")),
        _optional("event_hour", "int"),
        _optional("is_roaming", "boolean"),
        *(_optional(name, "double") for name in ("geo_lat", "geo_lon")),
    ],
}
"""Avro schema of what a peer writes. The names are those of the same fields of a unified CDR, which has more."""

FIELDS = tuple(str(field["name"]) for field in SCHEMA["fields"])  # type: ignore[index]
_AVRO = fastavro.parse_schema(SCHEMA)


class _Raw(BaseModel):
    imsi: str = Field(pattern=r"^[0-9]{14,15}$")
    msisdn: str = Field(pattern=r"^\+?[0-9]{10,15}$")
    imei: str | None = Field(pattern=r"^[0-9]{14,16}$")
    cell_id: str
    rat: Literal["2G", "3G", "4G", "5G"]
    bytes_up: int = Field(ge=0)
    bytes_down: int = Field(ge=0)
    event_time: datetime


def handler(reference: Path) -> Callable[[bytes], bytes]:
    """Return the function that turns a raw record into the Avro bytes of a finished one.

    The function raises ValueError for a record that must be rejected.

    Args:
        reference: Directory of `cells.csv` and `subscribers.csv`, see `records.write_reference`.
    """
    cells = {cell: (float(lat), float(lon)) for cell, lat, lon in _rows(reference / "cells.csv")}
    subscribers = {imsi: (segment, plan) for imsi, segment, plan in _rows(reference / "subscribers.csv")}

    def handle(value: bytes) -> bytes:
        raw: dict[str, Any] = dict(zip(_COLUMNS, value.decode().split(";"), strict=True))
        raw["imei"] = raw["imei"] or None
        cdr = dict(_Raw.model_validate(raw))
        imsi, msisdn = cdr["imsi"], cdr["msisdn"]
        local = cdr["event_time"].astimezone(_PARIS)
        lat, lon = cells.get(cdr["cell_id"], _NOTHING)
        segment, plan = subscribers.get(imsi, _NOTHING)
        cdr |= {
            "msisdn": msisdn if msisdn[0] == "+" else "+" + msisdn,
            "country": "FR",
            "event_type": "data",
            "timezone": "Europe/Paris",
            "mcc": imsi[:3],
            "mnc": imsi[3:5],
            "segment": segment,
            "plan": plan,
            "event_date": local.date().isoformat(),
            "event_hour": local.hour,
            "is_roaming": imsi[:3] != "208",
            "geo_lat": lat,
            "geo_lon": lon,
        }
        out = io.BytesIO()
        fastavro.schemaless_writer(out, _AVRO, cdr)
        return out.getvalue()

    return handle


def reason(error: ValueError) -> bytes:
    """Return the code of a reject, for the header of its dead letter."""
    if isinstance(error, ValidationError):
        return ",".join(f"invalid_{each['loc'][0]}" for each in error.errors(include_input=False)).encode()
    return b"malformed_payload"


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))
