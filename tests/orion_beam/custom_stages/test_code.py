"""The code of a stage: where it is found, how it gets its options, and what a user reads if it cannot run."""

import pickle
import re
import subprocess
import sys

import pytest

from orion_beam.custom_stages.code import load_stage, load_stages, runnable
from orion_beam.custom_stages.declaration import JobStage
from orion_beam.custom_stages.run import RunCustomStage
from orion_beam.errors import UserError
from orion_beam.job_file.stage_declaration import StageDeclaration
from orion_beam.testing import raw_batch, run_stage

TAG = """
from pydantic import BaseModel
from orion_beam.custom_stages import Reject, custom_stage, split

class Options(BaseModel):
    prefix: str
    at_most: int = 3

@custom_stage(codes={"test_sim": "the IMSI is of a test SIM"}, fields={"vip": bool, "score": float})
def tag(batch, options: Options):
    assert options.prefix == "20801" and options.at_most == 3
    return split(batch)
"""


@pytest.fixture
def stages(tmp_path):
    (tmp_path / "tag.py").write_text(TAG)
    return tmp_path


def declared(**changes) -> StageDeclaration:
    return StageDeclaration(**{"name": "tag", "after": "enrich", "options": {"prefix": "20801"}} | changes)


def refusal(code: str, directory, **changes) -> str:
    (directory / "tag.py").write_text(code)
    with pytest.raises(UserError) as refused:
        load_stage(declared(**changes), directory)
    return str(refused.value)


def test_a_file_of_the_workspace_is_a_stage(stages):
    stage = load_stage(declared(), stages)
    assert stage.codes == {"test_sim": "the IMSI is of a test SIM"}
    assert [(field.name, field.type.value) for field in stage.fields] == [("vip", "boolean"), ("score", "double")]
    assert stage.source == TAG
    assert runnable(stage)(raw_batch("FR", [b"x"])).accepted.num_rows == 1


def test_a_stage_that_a_job_takes_along_needs_no_workspace(stages):
    stage = load_stage(declared(), stages)
    (stages / "tag.py").unlink()
    for taken in (JobStage.model_validate_json(stage.model_dump_json()), pickle.loads(pickle.dumps(stage))):
        assert taken == stage
        assert runnable(taken)(raw_batch("FR", [b"x"])).accepted.num_rows == 1


def test_another_process_runs_the_text_of_the_stage(stages):
    text = load_stage(declared(), stages).model_dump_json()
    (stages / "tag.py").unlink()
    program = (
        "import sys; from orion_beam.custom_stages.code import runnable;"
        "from orion_beam.custom_stages.declaration import JobStage; from orion_beam.testing import raw_batch;"
        "print(runnable(JobStage.model_validate_json(sys.argv[1]))(raw_batch('FR', [b'x'])).accepted.num_rows)"
    )
    done = subprocess.run([sys.executable, "-c", program, text], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_one_file_is_two_stages_with_options_of_their_own(stages):
    tags = [declared(name=name, run="tag", options={"prefix": "20801"}) for name in ("one", "two")]
    assert [stage.name for stage in load_stages(tags, stages)] == ["one", "two"]


def test_a_class_is_made_once_and_called_for_each_batch(tmp_path):
    (tmp_path / "tag.py").write_text(
        "from orion_beam.custom_stages import split\n"
        "class tag:\n"
        "    def __init__(self, options: dict) -> None:\n"
        "        self.calls = options['first']\n"
        "    def __call__(self, batch):\n"
        "        self.calls += 1\n"
        "        assert self.calls <= 12\n"
        "        return split(batch)\n"
    )
    run = runnable(load_stage(declared(options={"first": 10}), tmp_path))
    for _ in range(2):
        run(raw_batch("FR", [b"x"]))
    with pytest.raises(AssertionError):
        run(raw_batch("FR", [b"x"]))


def test_a_stage_transform_is_a_stage(tmp_path):
    (tmp_path / "tag.py").write_text(
        "from dataclasses import dataclass\n"
        "from orion_beam.custom_stages import Reject, custom_stage, split\n"
        "from orion_beam.transforms.stage.split import StageTransform\n"
        "@custom_stage(codes={'odd': 'it is odd'})\n"
        "@dataclass(eq=False)\n"
        "class tag(StageTransform):\n"
        "    options: dict\n"
        "    def prepare(self):\n"
        "        rows = self.options['rows']\n"
        "        return lambda batch: split(batch, Reject('odd', 'value', rows))\n"
    )
    stage = load_stage(declared(options={"rows": [True, False]}), tmp_path)
    outcome = run_stage(RunCustomStage(stage), [raw_batch("FR", [b"x", b"y"])])
    assert [row["source_offset"] for row in outcome.accepted] == [1]
    assert [letter["code"] for letter in outcome.dead_letters] == ["tag.odd"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import apache_beam\ntag = apache_beam.Create\n", "is a PTransform: derive it from StageTransform"),
        ("import nosuch_package\n", "/tag.py:1: ModuleNotFoundError: No module named 'nosuch_package'"),
        ("x = 1\ndef tag(:\n", "/tag.py:2: SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(3)\n", "/tag.py:2: SystemExit: 3"),
        ("def f():\n    return {}['a']\nf()\n", "/tag.py:2: KeyError: 'a'"),
        ("def other(batch): pass\n", "/tag.py has no tag: the stage's function or class"),
        ("tag = 3\n", "tag in .*/tag.py is no function and no class"),
        ("def tag(batch): pass\n", "options: tag takes none, it has no argument `options`"),
        (TAG.replace("prefix: str", "prefix: bool"), "options.prefix: Input should be a valid boolean"),
        (TAG.replace("at_most: int = 3", "at_most: int"), "options.at_most: Field required"),
        (TAG.replace("prefix: str", "pre: str"), "options.prefix is no option; there are at_most, pre"),
        (TAG.replace('"vip": bool', '"imsi": str'), "the field imsi is there already"),
        (TAG.replace('"vip": bool', '"vip": list'), "fields.0.type: .*'string', 'long', 'double', 'boolean'"),
        (TAG.replace('"test_sim":', '"Test SIM":'), "codes.Test SIM"),
        (
            "class tag:\n    def __init__(self, options: dict):\n        open('/nosuch')\n"
            "    def __call__(self, batch): pass\n",
            "/tag.py:3: FileNotFoundError: .*/nosuch",
        ),
        (
            "class tag:\n    def __init__(self, options: dict):\n        raise SystemExit(3)\n"
            "    def __call__(self, batch): pass\n",
            "/tag.py:3: SystemExit: 3",
        ),
        (
            "class tag:\n    def __init__(self, options: dict): pass\n    def __call__(self): pass\n",
            "objects of tag cannot be called with a batch",
        ),
        ("def tag(options: dict): pass\n", "tag cannot be called with a batch: write `def tag"),
        (TAG.replace("@custom_stage(", "@custom_stage(after='normalize', "), "after of custom_stage: expected some of"),
        (TAG.replace("@custom_stage(", "@custom_stage(after=['decode'], "), "after of custom_stage: expected some of"),
        ("class tag:\n    def __init__(self, options: dict): pass\n", "objects of tag cannot be called with a batch"),
    ],
)
def test_code_that_cannot_run_is_refused_with_file_and_line(code, message, tmp_path):
    text = refusal(code, tmp_path)
    assert text.startswith("stage tag: ")
    assert re.search(message, text)


def test_what_a_stage_prints_is_no_part_of_a_commands_output(tmp_path, capsys):
    (tmp_path / "tag.py").write_text("print('imported')\ndef tag(batch, options):\n    print(len(batch), end=';')\n")
    runnable(load_stage(declared(), tmp_path))(raw_batch("FR", [b"x"]))
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "imported\n1;")


def test_an_installed_package_is_named_by_module_and_name():
    with pytest.raises(UserError, match="stage tag: nosuch: ModuleNotFoundError: No module named 'nosuch'"):
        load_stage(declared(run="nosuch:stage"))
    with pytest.raises(UserError, match="has no nosuch"):
        load_stage(declared(run="orion_beam.testing:nosuch"))


def test_an_installed_package_offers_stages_by_name(tmp_path, monkeypatch):
    (tmp_path / "offering.py").write_text(TAG)
    info = tmp_path / "offering-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offering\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[orion_beam.stages]\ntagging = offering:tag\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    stage = load_stage(declared(run="tagging"), tmp_path / "stages")
    assert (stage.run, stage.source) == ("offering:tag", None)
    assert runnable(stage)(raw_batch("FR", [b"x"])).accepted.num_rows == 1


def test_a_name_that_is_nowhere_is_refused_with_what_there_is(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*/tag\.py, and no installed package offers a stage tag"):
        load_stage(declared(), tmp_path)


@pytest.mark.parametrize("name", ["Tag", "1st", "a-b", "", "x" * 41, "validate", "segment", "raw_value"])
def test_names_that_would_be_taken_for_others_are_refused(name):
    with pytest.raises(ValueError, match="name"):
        declared(name=name)
