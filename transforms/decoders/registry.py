"""Discovery of the raw formats: each module of `transforms/decoders` with a `FORMAT` is one. There is no list."""

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module

from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms import decoders
from orion_beam.transforms.decoders import RawFormat


@cache
def all_formats() -> Mapping[str, RawFormat]:
    """Return all raw formats by name.

    Raises:
        TypeError: A module's FORMAT is not a RawFormat, or its name is not the module's. The message names the module.
    """
    formats = {}
    for found in pkgutil.iter_modules(decoders.__path__):
        module = import_module(f"{decoders.__name__}.{found.name}")
        if not hasattr(module, "FORMAT"):
            continue
        if not isinstance(module.FORMAT, RawFormat) or module.FORMAT.name != found.name:
            raise TypeError(f"{module.__name__}.FORMAT is no RawFormat of the name {found.name!r}")
        formats[found.name] = module.FORMAT
    return formats


def check_formats(profile: CountryProfile) -> None:
    """Check that all raw formats that a profile names exist.

    Raises:
        ValueError: A format does not exist. The message names it and the existing ones.
    """
    for name in profile.formats:
        if name not in all_formats():
            raise ValueError(f"formats: there is no raw format {name!r}, only {', '.join(all_formats())}")


@cache
def formats_of(profile: CountryProfile) -> tuple[RawFormat, ...]:
    """Return the formats that a country sends, in the order in which they may claim a payload.

    Formats that the first byte identifies come first, because the separators of the others may occur in their texts.
    After that, the country's own formats, in the order of its profile, come before those that every country may send.
    """
    formats = all_formats()
    own = [formats[name] for name in profile.formats]
    others = [each for each in formats.values() if each.is_sent_by_all and each not in own]
    return tuple(sorted([*own, *others], key=lambda each: (not each.is_told_by_first_byte, each.is_sent_by_all)))
