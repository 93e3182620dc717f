"""`orion-beam init`: a workspace that works at once."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from orion_beam.defaults import SKELETON_DIRECTORY
from orion_beam.job_file.model import JobFile
from orion_beam.job_file.read import read_job
from orion_beam.workspace import Workspace

FILES = {
    *("orion.yaml", "topics.yaml", "README.md", ".gitignore", ".orion/job.schema.json"),
    *(f"{name}/.gitkeep" for name in ("countries", "formats", "stages", "reference", "cases")),
}


def files_of(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_new_workspace_is_found_and_has_no_mistake(orion_beam, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = orion_beam("init", "w")
    assert answer.code == 0
    assert "cd w" in answer.out
    assert files_of(tmp_path / "w") == FILES
    monkeypatch.chdir(tmp_path / "w" / "stages")
    shown = {each["key"]: each for each in json.loads(orion_beam("config", "show", "--json").out)}
    assert shown["workspace"]["value"] == str(tmp_path / "w")
    assert shown["brokers"]["value"] == ["localhost:9092"]
    assert orion_beam("lint").code == 0
    assert orion_beam("run", "--dry-run").code == 0


def test_what_stands_in_comments_is_right(tmp_path):
    text = (SKELETON_DIRECTORY / "orion.yaml").read_text(encoding="utf-8")
    # A comment of one # and a blank is a key, or belongs to one.
    keys = re.sub(r"^# (?=[a-z_]+:|  )", "", text, flags=re.MULTILINE)
    (tmp_path / "orion.yaml").write_text(keys, encoding="utf-8")
    settings = read_job(Workspace(tmp_path)).settings
    assert settings.model_fields_set == JobFile.model_fields.keys() - {
        *("publish", "start_from", "value_format", "schema_registry", "kafka")
    }


def test_editors_get_the_schema_without_a_network(orion_beam, tmp_path):
    assert orion_beam("init", tmp_path).code == 0
    first = (tmp_path / "orion.yaml").read_text().splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert json.loads((tmp_path / named).read_text()) == JobFile.model_json_schema()
    assert (tmp_path / named).read_text() == orion_beam("schema", "job").out


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ("orion.yaml", "is a workspace already"),
        ("README.md", "README.md is there already"),
        ("formats/.gitkeep", "there"),
    ],
)
def test_nothing_is_overwritten(orion_beam, tmp_path, there, says):
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("mine")
    code, out, err = orion_beam("init", tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert files_of(tmp_path) == {there}


def test_a_place_that_cannot_be_written_to_is_named(orion_beam, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = orion_beam("init", tmp_path / "file" / "w")
    assert (code, err.count("\n")) == (2, 1)
    assert "Not a directory" in err
    code, _, err = orion_beam("init", tmp_path / ("w" * 300))
    assert (code, err.count("\n")) == (2, 1)
    assert "File name too long" in err
    code, _, err = orion_beam("init", "s3://bucket/w")
    assert (code, err.count("\n")) == (2, 1)


def test_git_keeps_every_directory_and_no_login(tmp_path, orion_beam):
    assert orion_beam("init", tmp_path).code == 0
    (tmp_path / "kafka.properties").touch()
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for arguments in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, env=environment)
    listed = subprocess.check_output(["git", "ls-files"], cwd=tmp_path, text=True, env=environment)
    assert set(listed.splitlines()) == FILES


def test_the_readme_is_short():
    lines = (SKELETON_DIRECTORY / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 12
    assert Path(SKELETON_DIRECTORY, "gitignore").is_file()
