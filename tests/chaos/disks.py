"""Small file systems that can be filled: loop mounts where this user may mount, otherwise none."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_FILLER = "filler"


class Disk:
    """A directory on a file system of its own, if this user may mount one.

    Args:
        path: Directory; created when missing.
        mebibytes: Size of the file system.

    Attributes:
        is_mounted: Whether the directory is a file system of its own, so that it can be filled.
    """

    def __init__(self, path: Path, mebibytes: int) -> None:
        """Store the settings; `__enter__` mounts."""
        self.path = path
        self._image = path.parent / f".{path.name}.img"
        self._mebibytes = mebibytes
        self.is_mounted = False

    def __enter__(self) -> Self:
        """Make the directory, and mount the file system."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as image:
            image.truncate(self._mebibytes << 20)
        commands = (
            ["mkfs.ext4", "-q", "-F", "-m", "0", str(self._image)],
            ["mount", "-o", "loop", str(self._image), str(self.path)],
        )
        self.is_mounted = os.geteuid() == 0 and all(_works(command) for command in commands)
        if self.is_mounted:
            # ext4's own directory, which is none of Kafka's.
            (self.path / "lost+found").rmdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Unmount, and delete the image."""
        if self.is_mounted:
            _works(["umount", "--lazy", str(self.path)])
        self._image.unlink(missing_ok=True)

    def fill(self) -> None:
        """Leave no byte free."""
        filler = self.path / _FILLER
        descriptor = os.open(filler, os.O_CREAT | os.O_WRONLY)
        try:
            free = os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize
            with suppress(OSError):
                os.posix_fallocate(descriptor, 0, max(1, free))
            os.lseek(descriptor, 0, os.SEEK_END)
            with suppress(OSError):
                while True:
                    os.write(descriptor, bytes(1 << 12))
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Make room again."""
        (self.path / _FILLER).unlink(missing_ok=True)


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
