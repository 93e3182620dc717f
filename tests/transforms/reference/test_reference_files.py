"""Reference data: what is loaded, what is refused and how, and what happens when a file changes."""

import bz2
import gzip
import lzma
import os
import threading
import time
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from orion_beam.transforms.reference import reference_files as reference
from orion_beam.transforms.reference.lookups import Lookup
from orion_beam.transforms.reference.reference_files import (
    LiveLookup,
    ReferenceDataError,
    UnreadableReferenceError,
    load_cells,
    load_subscribers,
)

CELLS = "cell_id,country,plmn,place,lat,lon\n"


@pytest.fixture
def csv(tmp_path):
    def write(text: str, name: str = "cells.csv") -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def found(lookup: Lookup, *keys: str | None) -> list[dict[str, object]]:
    return pa.RecordBatch.from_pydict(lookup.find(pa.array(keys, pa.string()))).to_pylist()


def test_values_are_found_by_key_in_the_order_asked(csv):
    lookup = load_cells(csv(CELLS + "B,FR,20801,Lyon,45.7,4.8\nA,SN,60801,Dakar,14.7,-17.4\n"))
    a = {"country": "SN", "plmn": "60801", "place": "Dakar", "lat": 14.7, "lon": -17.4}
    b = {"country": "FR", "plmn": "20801", "place": "Lyon", "lat": 45.7, "lon": 4.8}
    nothing = dict.fromkeys(a)
    assert found(lookup, "B", "A", None, "B", "C", "", "AA") == [b, a, nothing, b, nothing, nothing, nothing]
    assert found(lookup) == []


def test_a_file_without_rows_knows_nothing(csv):
    lookup = load_cells(csv(CELLS))
    assert found(lookup, "A", None) == [dict.fromkeys(["country", "plmn", "place", "lat", "lon"])] * 2


def test_keys_and_plmns_are_texts_with_their_leading_zeros(csv):
    assert found(load_cells(csv(CELLS + "0042,US,00101,Test,1,2\n")), "0042", "42")[0]["plmn"] == "00101"


def test_columns_may_stand_in_any_order_among_others(csv):
    lookup = load_cells(csv("lon,lat,x,place,plmn,country,cell_id\n4.8,45.7,9,Lyon,20801,FR,A\n"))
    assert found(lookup, "A") == [{"country": "FR", "plmn": "20801", "place": "Lyon", "lat": 45.7, "lon": 4.8}]


def test_parquet_is_read_as_csv_is(tmp_path, csv):
    text = "imsi,segment,plan,subscriber_type\n208011234567890,consumer,Max,prepaid\n208011234567891,,,\n"
    path = tmp_path / "subscribers.parquet"
    pl.read_csv(text.encode(), infer_schema=False).write_parquet(path)
    imsis = "208011234567890", "208011234567891", "2"
    from_parquet = found(load_subscribers(str(path)), *imsis)
    assert from_parquet == found(load_subscribers(csv(text, "subscribers.csv")), *imsis)
    assert from_parquet[0] == {"segment": "consumer", "plan": "Max", "subscriber_type": "prepaid"}
    assert from_parquet[1] == from_parquet[2] == dict.fromkeys(from_parquet[0])


ROWS = (CELLS + "".join(f"A{number},FR,20801,x,1,2\n" for number in range(9000))).encode()


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (gzip.compress(ROWS)[:-30], "cells.csv.gz", "its gzip data is cut off: the file is not complete"),
        (bz2.compress(ROWS) + b"x", "cells.csv.bz2", "it is no sound bzip2 file"),
        (lzma.compress(ROWS)[:-100], "cells.csv.xz", "its xz data is cut off"),
        (ROWS, "cells.csv.gz", "it is no sound gzip file"),
        (b"", "cells.csv.gz", "its gzip data is cut off"),
        (ROWS.decode().encode("utf-16"), "cells.csv", "its text is UTF-16: save it as UTF-8"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path, content, name, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ReferenceDataError, match=f"^reference data {path}: {message}"):
        load_cells(str(path))


def test_a_compressed_file_of_several_members_is_read_whole(tmp_path):
    path = tmp_path / "cells.csv.gz"
    path.write_bytes(gzip.compress(ROWS[:5000]) + gzip.compress(ROWS[5000:]))
    assert len(load_cells(str(path))) == 9000


def test_a_pipe_is_no_place_for_what_is_read_again(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ReferenceDataError, match="it is a pipe: workers read it, too, so give a file"):
        load_cells(str(tmp_path / "pipe"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("A,FR,20801,x,1,2\n,FR,20801,x,1,2\n", "cell_id is empty in lines 3"),
        ("A,FR,20801,x,1,2\nB,FR,20801,x,1,2\nA,FR,20801,x,1,2\n", "cell_id comes twice in lines 2, 4"),
        ("A,FR,20801,x,north,2\n", "a value is no number in lines 2"),
        ("A,FR,20801,x,1,2\nB,FR,20801,x,91,2\n", "a value is out of range in lines 3"),
        (
            "A,FR,20801,x,1,2\nB,FR,20801\nC,FR,20801,x,1,2,3\n",
            "the number of columns is not the header's in lines 3, 4",
        ),
        ('\n\nA,FR,20801,"two\nlines",1,2\r\n\nB,FR,20801,"a ""quote""",91,2\n', "a value is out of range in lines 7"),
        ('A,FR,20801,"x,\n\ny",1,2\n,FR,20801,"z\n",1,2\n', "cell_id is empty in lines 5"),
        (
            'A,FR,20801,x,1,2\nB,FR,20801,"x,1,2\n' + "C,FR,20801,x,1,2\n" * 9_000,
            "the number of columns is not the header's in lines 3",
        ),
    ],
)
def test_what_cannot_be_used_is_named_by_its_lines_in_the_file(csv, content, message):
    with pytest.raises(ReferenceDataError, match=f"cells.csv: {message}$"):
        load_cells(csv(CELLS + content))


def test_a_column_of_a_type_that_is_not_read_is_told(tmp_path):
    rows = {"cell_id": ["A"], "country": ["FR"], "plmn": ["20801"], "place": ["x"], "lat": [Decimal(1)], "lon": [2.0]}
    table = pa.table(rows)
    wide = table.set_column(4, "lat", table["lat"].cast(pa.decimal256(60, 3)))
    pyarrow.parquet.write_table(wide, tmp_path / "cells.parquet")
    with pytest.raises(ReferenceDataError, match=r"cells\.parquet: Polars cannot read it: "):
        load_cells(str(tmp_path / "cells.parquet"))


def test_lines_are_counted_over_all_chunks_of_a_large_file(csv, monkeypatch):
    monkeypatch.setattr(reference, "_CHUNK_BYTES", 4096)
    good = [f'{row},FR,20801,"a\nb",1,2\n' for row in range(2_000)]
    for content, lines in (([*good, "x,FR,20801,x,91,2\n"], "4002"), ([*good, "1999,FR,20801,x,1,2\n"], "4000, 4002"),
                           ([*good, "x,FR\n"], "4002")):  # fmt: skip
        with pytest.raises(ReferenceDataError, match=f"in lines {lines}$"):
            load_cells(csv(CELLS + "".join(content)))
    assert len(load_cells(csv(CELLS + "".join(good)))) == 2_000


@pytest.mark.parametrize("chunk_bytes", [4096, 1 << 24])
def test_a_text_that_is_not_utf_8_is_named_by_its_line(csv, monkeypatch, chunk_bytes):
    monkeypatch.setattr(reference, "_CHUNK_BYTES", chunk_bytes)
    path = csv("")
    good = [f'{row},FR,20801,"a\nb",1,2\n' for row in range(2_000)]
    Path(path).write_bytes((CELLS + "".join(good)).encode() + b"x,FR,20801,Bouak\xe9,1,2\n")
    with pytest.raises(ReferenceDataError, match="cells.csv: a text is not UTF-8 in lines 4002$"):
        load_cells(path)


def test_a_refusal_quotes_no_row(csv):
    secret = "208011234567890"
    for content in (f"{secret}\n", f"{secret},a,b,x\n", f"{secret},a,b,prepaid\n" * 2, f"{secret},\udcff,b,\n"):
        path = csv("", "subscribers.csv")
        text = "imsi,segment,plan,subscriber_type\n" + content
        Path(path).write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(ReferenceDataError) as caught:
            load_subscribers(path)
        assert secret not in str(caught.value)


def test_rows_of_parquet_are_named_by_their_number(tmp_path):
    path = tmp_path / "subscribers.parquet"
    kinds = ["prepaid", "prepaid", "x"]
    imsis = [f"20801123456789{row}" for row in range(3)]
    frame = pl.DataFrame({"imsi": imsis, "segment": "a", "plan": "b", "subscriber_type": kinds})
    frame.write_parquet(path)
    with pytest.raises(ReferenceDataError, match="a value is out of range in rows 3$"):
        load_subscribers(str(path))


@pytest.mark.parametrize("text", ["", "cell_id,country\nA,FR\n", "a;b\n1;2\n", "\0\0\0"])
def test_a_file_without_the_columns_is_refused(csv, text):
    path = csv(text)
    with pytest.raises(ReferenceDataError, match="cells.csv: "):
        load_cells(path)


def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path):
    with pytest.raises(ReferenceDataError, match="nowhere.csv: "):
        load_cells(str(tmp_path / "nowhere.csv"))
    with pytest.raises(ReferenceDataError, match=str(tmp_path)):
        load_cells(str(tmp_path))


def test_parquet_that_is_none_or_has_other_types_is_refused(tmp_path):
    path = tmp_path / "cells.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(ReferenceDataError, match="cells.parquet: "):
        load_cells(str(path))
    other = tmp_path / "other.parquet"
    columns = {"cell_id": ["A"], "country": ["FR"], "plmn": ["20801"], "place": ["x"], "lat": ["north"], "lon": [1.0]}
    pl.DataFrame(columns).write_parquet(other)
    with pytest.raises(ReferenceDataError, match="other.parquet: "):
        load_cells(str(other))


@pytest.mark.parametrize("subscriber_type", ["Platinum", "PREPAID", "x"])
def test_a_subscriber_type_that_no_cdr_may_have_is_refused(csv, subscriber_type):
    text = f"imsi,segment,plan,subscriber_type\n208011234567890,a,b,prepaid\n208011234567891,a,b,{subscriber_type}\n"
    with pytest.raises(ReferenceDataError, match="subscribers.csv: .* in lines 3$"):
        load_subscribers(csv(text, "subscribers.csv"))


@pytest.mark.parametrize(
    "row", ["A,FR,20801,x,91,0", "A,FR,20801,x,0,-181", "A,FR,20801,x,NaN,0", "A,France,20801,x,0,0"]
)
def test_a_cell_that_lies_nowhere_is_refused(csv, row):
    with pytest.raises(ReferenceDataError, match="cells.csv: .* in lines 2$"):
        load_cells(csv(CELLS + row + "\n"))


def test_a_file_that_changes_is_read_again_and_the_version_says_so(csv):
    path = csv(CELLS + "A,FR,20801,Lyon,45.7,4.8\n")
    live = LiveLookup(path, load_cells, None)
    first = live.current.version
    assert not live.refresh()
    csv(CELLS + "A,FR,20801,Villeurbanne,45.7,4.9\n")
    assert live.refresh()
    assert live.current.version != first
    assert found(live.current, "A")[0]["place"] == "Villeurbanne"


@pytest.mark.parametrize("content", [CELLS + "A,FR,20801,x,1,2\nA,FR,20801,x,1,2\n", "nonsense", None])
def test_the_last_good_state_stays_in_use_and_the_bad_file_is_named_once(csv, caplog, content):
    path = csv(CELLS + "A,FR,20801,Lyon,45.7,4.8\n")
    live = LiveLookup(path, load_cells, None)
    if content is None:
        Path(path).unlink()
    else:
        csv(content)
    assert not live.refresh()
    assert not live.refresh()
    assert found(live.current, "A")[0]["place"] == "Lyon"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert f"{path}: " in caplog.text
    assert f"version {live.current.version} stays in use" in caplog.text
    csv(CELLS + "A,FR,20801,Bron,45.7,4.9\n")
    assert live.refresh()
    assert found(live.current, "A")[0]["place"] == "Bron"


def test_nobody_looks_for_changes_that_nobody_needs(csv):
    path = csv(CELLS + "A,FR,20801,Lyon,45.7,4.8\n")
    live = LiveLookup(path, load_cells, 0.01)
    (watcher,) = [thread for thread in threading.enumerate() if path in thread.name]
    del live
    watcher.join(600)
    assert not watcher.is_alive()


def test_a_change_is_noticed_by_itself(csv):
    path = csv(CELLS + "A,FR,20801,Lyon,45.7,4.8\n")
    live = LiveLookup(path, load_cells, 0.01)
    csv(CELLS + "A,FR,20801,Villeurbanne,45.7,4.9\n")
    deadline = time.monotonic() + 120
    while found(live.current, "A")[0]["place"] != "Villeurbanne" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found(live.current, "A")[0]["place"] == "Villeurbanne"


@pytest.mark.parametrize("error", [UnreadableReferenceError("cells.csv: not now"), RuntimeError("208011234567890")])
def test_whatever_a_refresh_raises_it_is_logged_and_tried_again(csv, caplog, error):
    errors = [None, error, error, None]

    def load(path: str) -> Lookup:
        if (raised := errors.pop(0)) is not None:
            raise raised
        return load_cells(path)

    path = csv(CELLS + "A,FR,20801,Lyon,45.7,4.8\n")
    live = LiveLookup(path, load, 0.01)
    csv(CELLS + "A,FR,20801,Villeurbanne,45.7,4.9\n")
    deadline = time.monotonic() + 30
    while errors and time.monotonic() < deadline:
        time.sleep(0.01)
    while found(live.current, "A")[0]["place"] != "Villeurbanne" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found(live.current, "A")[0]["place"] == "Villeurbanne"
    failures = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(failures) == 2
    assert all("stays in use" in failure for failure in failures)
    assert "208011234567890" not in caplog.text
