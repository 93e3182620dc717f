"""The settings that Flink 1.19 knows."""

from tests.runners.deploy.schemas import TESTDATA


def flink_settings() -> set[str]:
    """Return the names of all settings."""
    names = set((TESTDATA / "flink-1.19-settings.txt").read_text(encoding="utf-8").split())
    # Flink's plugin hands each `s3.` on to Hadoop.
    return names | {name.replace("fs.s3a.", "s3.", 1) for name in names if name.startswith("fs.s3a.")}
