"""A small file system that runs full, and has room again."""

import errno
from pathlib import Path

import pytest

from tests.chaos.disks import Disk


def test_nothing_can_be_written_to_a_full_disk_until_it_is_cleared(tmp_path: Path) -> None:
    with Disk(tmp_path / "disk", mebibytes=16) as disk:
        if not disk.is_mounted:
            pytest.skip("this user may not mount a file system")
        (disk.path / "kept").write_bytes(b"1")
        disk.fill()
        with pytest.raises(OSError, match="No space") as raised:
            (disk.path / "more").write_bytes(bytes(1 << 16))
        assert raised.value.errno == errno.ENOSPC
        disk.clear()
        (disk.path / "more").write_bytes(bytes(1 << 16))
    assert list(tmp_path.iterdir()) == [disk.path]
