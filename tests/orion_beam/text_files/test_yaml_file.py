"""YAML with lines: core schema, and messages that say where a mistake is."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from orion_beam.errors import UserError
from orion_beam.text_files.yaml_file import read_yaml


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def of(text: str):
        path = tmp_path / "a.yaml"
        path.write_text(text, encoding="utf-8")
        return read_yaml(path)

    return of


def test_values_are_those_of_yaml_1_2(read) -> None:
    text = "[NO, off, yes, true, 0123, 12, -1.5, 2026-01-01, 9092:10, ~, null, 1_000]"
    assert read(text).data == [
        *("NO", "off", "yes", True, "0123", 12, -1.5, "2026-01-01", "9092:10", None, None, "1_000")
    ]


def test_a_key_is_a_text(read) -> None:
    assert read("NO: 1\n1: 2\ntrue: 3\n").data == {"NO": 1, "1": 2, "true": 3}


def test_each_value_has_its_line(read) -> None:
    file = read("# what it is\na:\n  b: [1,\n    2]\nc: {d: 3}\n")
    assert file.lines == {("a",): 2, ("a", "b"): 3, ("a", "b", 0): 3, ("a", "b", 1): 4, ("c",): 5, ("c", "d"): 5}
    assert file.place(("a", "b", 1)) == "a.yaml:4"
    assert file.place(("a", "x", "y")) == "a.yaml:2"


def test_a_mapping_may_take_over_another(read) -> None:
    assert read("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n").data["b"] == {"x": 1, "y": 3}


ALIASES = "".join(f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}]\n" for old, new in pairwise("abcdefghijklm"))
"""Lines that each hold the one before four times: four to the power of twelve values."""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "a.yaml:3: a is there twice"),
        ("a: 1\nb: [\n", "a.yaml:3: expected the node content, but found '<stream end>'"),
        ("a: !!python/object:os.system {}\n", "a.yaml:1: "),
        ("a: !!python/name:os.system\n", "a.yaml:1: "),
        ("? [a, b]\n: 1\n", "a.yaml:1: a key is one word"),
        ("a: &a [*a]\n", "a.yaml: holds itself"),
        ("[" * 5000, "a.yaml: holds itself, or too many levels"),
        ("a: \0", "a.yaml: "),
        ("a: 1\nb: !!bool abc\n", "a.yaml:2: no bool that can be read"),
        ("a: 1\nb: !!timestamp abc\n", "a.yaml:2: no timestamp that can be read"),
        ("a: 1\nb: " + "9" * 5000, "a.yaml:2: no int that can be read"),
        ('a: 1\nb: "\\ud800"\n', "a.yaml:2: a character that no text can hold"),
        ('a: 1\nb: "x\\0"\n', "a.yaml:2: a character that no text can hold"),
        ("a: &a [1, 1, 1, 1]\n" + ALIASES, "a.yaml:1: more than 100,000 values"),
    ],
)
def test_what_is_no_plain_yaml_is_one_error_with_its_line(read, text: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        read(text)


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: No such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(UserError, match=r"latin\.yaml: is no UTF-8 text"):
        read_yaml(tmp_path / "latin.yaml")
