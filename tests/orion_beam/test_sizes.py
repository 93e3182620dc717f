"""Sizes of memory, as people write them."""

import pytest

from orion_beam.sizes import format_mib, parse_size_bytes


@pytest.mark.parametrize(
    ("text", "size"), [("512KiB", 512 << 10), ("512MiB", 512 << 20), ("1.5GiB", 3 << 29), ("2GiB", 2 << 30)]
)
def test_sizes_are_in_powers_of_two(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "2", "2GB", "2G", "0GiB", "-1GiB", "2 GiB", "1.GiB", "2gib", "١GiB"])
def test_other_texts_are_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is no size: write it as 512MiB, 1.5GiB or 2GiB"):
        parse_size_bytes(text)


def test_a_size_is_shown_in_mebibytes() -> None:
    assert format_mib(5 << 28) == "1,280 MiB"
