"""TOML files: what is no TOML is one line."""

from pathlib import Path

import pytest

from orion_beam.errors import UserError
from orion_beam.text_files.toml_file import read_toml


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("\ufeffx = 1\n", encoding="utf-8")
    assert read_toml(tmp_path / "a.toml").data == {"x": 1}


def test_too_many_levels_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("x = " + "[" * 5000)
    with pytest.raises(UserError, match=r"a\.toml: too many levels"):
        read_toml(tmp_path / "a.toml")


def test_a_number_of_too_many_digits_is_told_without_advice_for_the_interpreter(tmp_path):
    (tmp_path / "a.toml").write_text("x = " + "9" * 5000)
    with pytest.raises(UserError, match=r"a\.toml: a number has too many digits$"):
        read_toml(tmp_path / "a.toml")
