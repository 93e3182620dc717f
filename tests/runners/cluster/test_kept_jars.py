"""Jars of submitted jobs: the last ones are kept, for their owner only."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from orion_beam.errors import UserError
from orion_beam.runners.cluster.kept_jars import keep_jar, kept_jar


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORION_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def jar(directory: Path, text: str) -> Path:
    path = directory / f"{text}.jar"
    path.write_text(text)
    return path


def test_a_jar_is_found_by_its_hash_and_read_by_its_owner_only(tmp_path: Path) -> None:
    digest = keep_jar(jar(tmp_path, "first"), "orion-a-FR")
    assert digest == hashlib.sha256(b"first").hexdigest()
    kept = kept_jar("orion-a-FR", digest)
    assert kept is not None
    assert kept.read_text() == "first"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert kept_jar("orion-b-FR", digest) is None
    assert kept_jar("orion-a-FR", None) is None


def test_the_oldest_jar_of_a_job_goes_and_one_that_is_used_again_stays(tmp_path: Path, home: Path) -> None:
    digests = []
    for age, text in enumerate(["first", "second", "third"]):
        digests.append(keep_jar(jar(tmp_path, text), "orion-a-FR"))
        os.utime(home / "submitted" / "orion-a-FR" / f"{digests[-1]}.jar", (age, age))
    other = keep_jar(jar(tmp_path, "other"), "orion-a-SN")
    keep_jar(tmp_path / "first.jar", "orion-a-FR")
    digests.append(keep_jar(jar(tmp_path, "fourth"), "orion-a-FR"))
    assert [kept_jar("orion-a-FR", digest) is not None for digest in digests] == [True, False, True, True]
    assert kept_jar("orion-a-SN", other) is not None
    assert not list((home / "submitted").rglob(".*"))


def test_a_place_that_cannot_be_written_is_an_error_of_the_user(tmp_path: Path, home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(UserError, match="cannot be written, and without it no rollback is possible"):
        keep_jar(jar(tmp_path, "first"), "orion-a-FR")
