"""Reference data on a real S3-compatible server: they load, reload after a change, and faults are told in one line."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from orion_beam.transforms.reference.reference_files import LiveLookup, UnreadableReferenceError, load_cells
from tests.s3 import REGION, S3, s3_in

CELLS = b"cell_id,country,plmn,place,lat,lon\nFR-1,FR,20801,Paris,48.8,2.3\n"
MORE_CELLS = CELLS + b"FR-2,FR,20801,Lyon,45.7,4.8\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_in(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture
def s3(server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The server, to which the environment points as it does on a worker's host."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(server.credentials))
    return server


def put(s3: S3, key: str, content: bytes) -> str:
    s3.client.put_object(Bucket=s3.bucket, Key=key, Body=content)
    return f"s3://{s3.bucket}/{key}"


def test_csv_compressed_csv_and_parquet_load(s3: S3) -> None:
    parquet = pa.BufferOutputStream()
    columns = {
        "cell_id": ["FR-1"],
        "country": ["FR"],
        "plmn": ["20801"],
        "place": ["Paris"],
        "lat": [48.8],
        "lon": [2.3],
    }
    pyarrow.parquet.write_table(pa.table(columns), parquet)
    for key, content in (("cells.csv", CELLS), ("cells.csv.zst", zstandard.compress(CELLS)),
                         ("cells.parquet", parquet.getvalue().to_pybytes())):  # fmt: skip
        found = load_cells(put(s3, f"ref/{key}", content)).find(pa.array(["FR-1", "FR-9"]))
        assert pa.RecordBatch.from_pydict(found).to_pylist()[0]["place"] == "Paris"


def test_a_changed_file_is_loaded_and_a_store_that_refuses_leaves_the_last_state(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(s3, "live/cells.csv", CELLS)
    live = LiveLookup(path, load_cells, None)
    assert not live.refresh()
    put(s3, "live/cells.csv", MORE_CELLS)
    assert live.refresh()
    assert len(live.current) == 2

    other = tmp_path / "credentials"
    other.write_text("[default]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = other\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(other))
    put(s3, "live/cells.csv", CELLS)
    assert not live.refresh()
    assert len(live.current) == 2
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(s3.credentials))
    assert live.refresh()
    assert len(live.current) == 1


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("s3://orion/none.csv", "Path does not exist 'orion/none.csv'"),
        ("s3://nobodys/cells.csv", "Path does not exist 'nobodys/cells.csv'"),
        ("s3://orion", "Not a regular file: 'orion'"),
        (
            "gs://orion/cells.csv",
            "gs:// cannot be read here: give a file, or s3://BUCKET/KEY, or install Beam's package",
        ),
    ],
)
def test_what_cannot_be_read_is_told_with_its_path(path: str, fault: str) -> None:
    with pytest.raises(UnreadableReferenceError) as refused:
        load_cells(path)
    assert str(refused.value).startswith(f"reference data {path}: ")
    assert fault in str(refused.value)


def test_a_wrong_login_is_told_without_the_key(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(s3, "ref/cells.csv", CELLS)
    other = tmp_path / "credentials"
    other.write_text("[default]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = sesame\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(other))
    with pytest.raises(UnreadableReferenceError, match="ACCESS_DENIED") as refused:
        load_cells(path)
    assert "AKIAOTHER" not in str(refused.value)
    assert "sesame" not in str(refused.value)
