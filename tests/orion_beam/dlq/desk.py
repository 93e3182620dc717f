"""Dead letters as the desk reads them, without a broker."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa

from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.countries import all_profiles
from orion_beam.io.letter_headers import ReadLetters, letters_of
from orion_beam.testing import raw_batch
from tests.letters import messages_batch, messages_from

ARRIVED = datetime(2026, 6, 1, 12, tzinfo=UTC)
IMSI, MSISDN, IMEI = "208011234567890", "+33612345678", "352099001761481"


def letters(country: str, payloads: Sequence[bytes | None], **options) -> pa.RecordBatch:
    """Return the letters that the chain makes of payloads, which it must all refuse."""
    batch = raw_batch(country, payloads, timestamps=ARRIVED, **options)
    outcome = run_chain(chain_of(all_profiles()[country], load_reference()), batch)
    assert outcome.rejected.num_rows == len(payloads)
    read = letters_of(messages_batch(*messages_from(outcome.rejected.sort_by("source_offset"))))
    assert read.foreign.num_rows == 0
    return read.letters


def read(batch: pa.RecordBatch, foreign: int = 0) -> ReadLetters:
    return ReadLetters(batch, messages_batch(*[(b"k", b"v", [])] * foreign))


def semicolon(imsi=IMSI, msisdn=MSISDN, imei=IMEI, rat="4G", time="2026-06-01T10:00:00Z") -> bytes:
    return f"{imsi};{msisdn};{imei};FR-PAR-001;{rat};1;2;{time}".encode()
