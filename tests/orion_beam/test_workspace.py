"""The search for a workspace."""

from pathlib import Path

import pytest

from orion_beam.errors import UserError
from orion_beam.job_file.read import read_job
from orion_beam.workspace import JOB_FILE, WORKSPACE_VARIABLE, find_workspace


def test_it_is_found_upwards_and_the_nearest_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    (inner / "stages").mkdir(parents=True)
    assert find_workspace(inner) is None
    (outer / JOB_FILE).touch()
    monkeypatch.chdir(inner)
    assert find_workspace().root == outer
    (inner / JOB_FILE).touch()
    assert find_workspace(inner / "stages").root == inner


def test_a_named_one_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "named"):
        (tmp_path / name).mkdir()
        (tmp_path / name / JOB_FILE).touch()
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(tmp_path / "named"))
    assert find_workspace(tmp_path / "here").root == tmp_path / "named"


def test_a_named_directory_must_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(tmp_path))
    with pytest.raises(UserError, match=r"no orion\.yaml"):
        find_workspace()


def test_what_has_its_name_and_is_no_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKSPACE_VARIABLE, raising=False)
    job_file = tmp_path / "orion.yaml"
    job_file.mkdir()
    workspace = find_workspace(tmp_path)
    assert workspace is not None
    with pytest.raises(UserError, match=r"orion\.yaml: Is a directory"):
        read_job(workspace)
    job_file.rmdir()
    job_file.symlink_to("orion.yaml")
    workspace = find_workspace(tmp_path)
    assert workspace is not None
    with pytest.raises(UserError, match=r"orion\.yaml: Too many levels of symbolic links"):
        read_job(workspace)
