"""Files that hold secrets."""

from pathlib import Path

import pytest

from orion_beam.errors import UserError
from orion_beam.text_files.private import read_token


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(" 0123456789abcdef\n")
    path.chmod(0o640)
    return path


def test_white_space_around_a_token_does_not_count(token_file: Path) -> None:
    assert read_token(token_file) == "0123456789abcdef"


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (b"0123456789abcde", 0o600, "holds no token: it needs at least 16 printable ASCII characters"),
        (b"0123456789\nabcdef", 0o600, "holds no token"),
        ("0123456789abcd\u00e9f".encode(), 0o600, "holds no token"),
        (b"0123456789abcdef\xff", 0o600, "cannot be read (no UTF-8)"),
        (b"0123456789abcdef", 0o604, "every user of this machine may read the token file"),
        (b"0123456789abcdef", 0o644, "`chmod o= "),
    ],
)
def test_a_file_that_holds_no_secret_is_refused(token_file: Path, content: bytes, mode: int, says: str) -> None:
    token_file.write_bytes(content)
    token_file.chmod(mode)
    with pytest.raises(UserError) as refused:
        read_token(token_file)
    assert says in str(refused.value)
    assert "0123456789" not in str(refused.value)
