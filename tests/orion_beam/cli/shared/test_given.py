"""A path to write to is of this machine: an address is refused, and no directory is called `s3:`."""

import pytest

BROKER = ["--bootstrap-servers", "localhost:1"]
NEW = ["country", "new", "ZZ", "--name", "x", "--mcc", "901", "--calling-code", "1", "--national-digits", "9",
       "--time-zone", "UTC"]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["run", "--input", "FR=fr.csv"], "--output"),
        (["replay", *BROKER, "--last", "1h"], "--output"),
        (["generate", "--count", "1"], "--output"),
        (["capture", *BROKER], "--output"),
        (["audit", *BROKER, "--countries", "FR"], "--missing-output"),
        (["dlq", "stats", *BROKER], "--html"),
        (["dlq", "export", *BROKER], "--output"),
        (NEW, "--profiles"),
        (NEW, "--cases"),
        (NEW, "--tests"),
    ],
)
@pytest.mark.parametrize("address", ["s3://bucket/x", "hdfs://host:9000/x"])
def test_an_address_is_no_place_to_write_to(orion_beam, tmp_path, monkeypatch, arguments, option, address):
    monkeypatch.chdir(tmp_path)
    answer = orion_beam(*arguments, option, address)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        f"orion-beam: error: {option} {address}: only files of this machine are written; write here and copy it there\n"
    )
    assert not list(tmp_path.iterdir())
