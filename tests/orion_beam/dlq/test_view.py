"""What people are shown of a dead letter."""

import json

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.defaults import ExportFormat
from orion_beam.dlq.export import export
from orion_beam.dlq.view import readable, views_of
from orion_beam.errors import UserError
from orion_beam.telemetry.masking import mask_digits, mask_numbers
from tests.orion_beam.dlq.desk import IMEI, IMSI, MSISDN, letters, semicolon

TOPIC = "cdr.dlq"


def test_broken_fields_are_marked_and_numbers_hidden():
    (view,) = views_of(letters("FR", [semicolon(rat="6G")], keys=[IMSI.encode()]), TOPIC, reveal=False)
    fields = {field.field: field for field in view.fields}
    assert (fields["rat"].text, bool(fields["rat"].problems)) == ("6G", True)
    assert fields["imsi"].text == "2080••••••••890"
    assert fields["msisdn"].text == "+3361••••678"
    assert fields["event_time"].text == "2026-06-01T10:00:00Z"
    assert [field for field, shown in fields.items() if shown.problems] == ["rat"]
    assert view.key == "2080••••••••890"
    assert view.reasons["code"] == "unknown_rat"


def test_a_missing_field_is_shown_as_broken():
    (view,) = views_of(letters("FR", [semicolon(imsi="")]), TOPIC, reveal=False)
    (broken,) = [field for field in view.fields if field.problems]
    assert (broken.field, broken.text) == ("imsi", None)


def test_a_record_of_no_format_is_shown_as_it_is_with_its_numbers_hidden():
    (view,) = views_of(letters("FR", [b"\xff" + IMSI.encode() + b"\x00\n;"]), TOPIC, reveal=False)
    (field,) = view.fields
    assert (field.field, field.text) == ("value", r"\xff2080••••••••890\x00\n;")


NUMBERS = [IMSI, MSISDN, IMEI, MSISDN.replace("+", "00")]


@pytest.mark.parametrize(
    "payload",
    [
        # Fields that have moved by one, so that numbers stand where others belong.
        f";{IMSI};{MSISDN};{IMEI};4G;1;2;2026-06-01T10:00:00Z",
        f"{IMSI};{MSISDN};{IMEI};{IMSI};6G;{IMSI};2;{IMSI}",
        f"{IMSI};{MSISDN};{IMEI}",
        f"{IMSI[:5]} {IMSI[5:10]} {IMSI[10:]}; {MSISDN[:3]} {MSISDN[3:]} ;x;;6G;1;2;x",
        json.dumps({"imsi": float(IMSI), "msisdn": MSISDN, "rat": "6G", "apn": IMSI, "charging_id": MSISDN}),
        json.dumps({"imsi": IMSI, "event_type": "voice", "rat": "6G", "timestamp": MSISDN, "called_number": MSISDN}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_no_number_is_seen_wherever_it_stands(payload, encoding, tmp_path):
    batch = letters("FR", [payload.encode(encoding)], keys=[IMSI.encode()], headers=[{"about": IMEI.encode()}])
    (view,) = views_of(batch, TOPIC, reveal=False)
    export([batch], tmp_path / "file", TOPIC, ExportFormat.JSONL, reveal=False)
    for shown in (json.dumps(view.as_json(), ensure_ascii=False), (tmp_path / "file").read_text()):
        plain = shown.replace("\\\\x00", "").replace("\\u0000", "").replace(" ", "")
        assert [number for number in NUMBERS if number.lstrip("+0") in plain] == []


def test_an_export_with_original_bytes_holds_them(tmp_path):
    batch = letters("FR", [b"\xff\x00", semicolon(rat="6G")], keys=[None, b"\xfe"])
    assert export([batch], tmp_path / "a", TOPIC, ExportFormat.AVRO, reveal=True) == 2
    with (tmp_path / "a").open("rb") as file:
        records = list(fastavro.reader(file))
    assert [record["value"] for record in records] == batch.column("value").to_pylist()
    assert [record["code"] for record in records] == ["invalid_encoding", "unknown_rat"]
    export([batch], tmp_path / "j", TOPIC, ExportFormat.JSONL, reveal=True)
    lines = [json.loads(line) for line in (tmp_path / "j").read_bytes().splitlines()]
    assert [line["value_base64"] for line in lines][:1] == ["/wA="]
    assert [line["key_base64"] for line in lines] == [None, "/g=="]


def test_original_bytes_must_be_asked_for_and_a_broken_export_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="--reveal"):
        export([], tmp_path / "a", TOPIC, ExportFormat.AVRO, reveal=False)

    def breaking():
        yield letters("FR", [b"x"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(breaking(), tmp_path / "b", TOPIC, ExportFormat.JSONL, reveal=False)
    assert list(tmp_path.iterdir()) == []


@given(st.text("0123456789+ .-\0x", max_size=40))
def test_masking_hides_digits_and_nothing_else(text):
    for masked in (mask_digits(text), mask_numbers(text)):
        assert len(masked) == len(text)
        changed = [pair for pair in zip(text, masked, strict=True) if pair[0] != pair[1]]
        assert all(hidden.isdigit() and shown == "•" for hidden, shown in changed)


def test_a_long_payload_is_cut():
    assert readable(b"a" * 5000, reveal=False) == "a" * 2048 + "… and 2,952 bytes more"
    assert readable(None, reveal=False) is None


def test_a_letter_by_reference_says_what_became_of_its_record():
    batch = letters("FR", [semicolon(rat="6G")] * 3)
    for name, values in {
        "reference": [None, "followed", "gone"],
        "value": [semicolon(rat="6G"), semicolon(rat="6G"), None],
        "payload_bytes": [None, 12, 1_234_567],
    }.items():
        place = batch.schema.get_field_index(name)
        batch = batch.set_column(place, batch.schema.field(place), pa.array(values, batch.schema.field(place).type))
    whole, followed, gone = views_of(batch, TOPIC, reveal=False)
    assert "reference" not in whole.reasons
    assert "payload_bytes" not in whole.reasons
    assert (followed.reasons["reference"], followed.reasons["payload_bytes"]) == ("followed", 12)
    assert followed.fields == whole.fields
    (field,) = [field for field in gone.fields if field.field == "value"]
    assert field.text == "gone: cdr.raw.FR[0]@2 no longer holds these 1,234,567 bytes"
