"""The comparison of outputs finds every difference, and ORION makes of the records what the oracle makes of them."""

import json

import fastavro
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from benchmarks.peers import records
from benchmarks.peers.outputs import Output, differences, fields_of, hashes
from benchmarks.peers.records import Pool, write_reference
from benchmarks.peers.work import FIELDS, SCHEMA
from orion_beam.chain import chain_of, load_reference, run_chain
from orion_beam.countries import default_profiles
from orion_beam.schemas.cdr import UnifiedCdr
from orion_beam.testing import raw_batch
from orion_beam.transforms.encode import Wire, encode_batch

ROWS = 3_000


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    reference = tmp_path_factory.mktemp("reference")
    write_reference(reference)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "POOL", ROWS)
        return Pool(reference)


def test_orion_makes_the_same_of_each_record_as_the_oracle(pool):
    chain = chain_of(default_profiles()["FR"], load_reference())
    outcome = run_chain(chain, raw_batch("FR", pool.values.to_pylist()))
    accepted = outcome.accepted.column("source_offset").to_numpy()
    assert accepted.tolist() == np.flatnonzero(pool.finals.is_valid()).tolist()
    assert 0.01 < outcome.rejected.num_rows / ROWS < 0.03
    header = bytes(10)
    encoded = encode_batch(outcome.accepted, UnifiedCdr, Wire(header)).accepted.column("value").to_pylist()
    ours, theirs = fields_of(Output.CDR)(encoded), fields_of(Output.PLAIN)(pool.finals.drop_null().to_pylist())
    assert tuple(ours.columns) == FIELDS
    assert ours.schema == theirs.schema
    assert ours.equals(theirs)
    keys = pool.keys.filter(pool.finals.is_valid())
    assert hashes(keys, ours).equals(hashes(keys, theirs))


def test_the_records_have_all_that_the_peers_must_handle(pool):
    finals = fields_of(Output.PLAIN)(pool.finals.drop_null().to_pylist())
    assert finals["is_roaming"].n_unique() == 2
    for name in ("imei", "segment", "geo_lat"):
        assert 0 < finals[name].null_count() < len(finals)


def test_the_schema_of_the_peers_is_avro_that_they_all_read():
    assert fastavro.parse_schema(json.loads(json.dumps(SCHEMA)))["name"] == "Cdr"


@pytest.mark.parametrize(
    ("came", "found"),
    [
        ([11, 12, 12], []),
        ([12, 11, 12], []),
        ([11, 12], ["cdr.final: 1 records missing, 0 unexpected or repeated"]),
        ([11, 11, 12, 12], ["cdr.final: 0 records missing, 1 unexpected or repeated"]),
        ([11, 12, 13], ["cdr.final: 1 records missing, 1 unexpected or repeated"]),
    ],
)
def test_each_difference_is_found(came, found):
    known, times = pl.Series([11, 12], dtype=pl.UInt64), np.array([1, 2])
    assert differences("cdr.final", known, times, pl.Series(came, dtype=pl.UInt64)) == found


def test_a_record_differs_by_any_field_and_by_its_key():
    fields = pl.DataFrame({"imsi": ["1", "1", "1"], "geo_lat": [1.0, 1.5, 1.0]})
    assert hashes(pa.array([b"a", b"a", b"b"]), fields).n_unique() == 3
